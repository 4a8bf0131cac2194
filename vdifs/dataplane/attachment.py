"""Putting a plane between the kernel and libfuse, which notices nothing of it."""

import fcntl
import os
import socket
from contextlib import closing

from vdifs.dataplane import _core

__all__ = ["Plane", "attach"]

Plane = _core.Plane

_FIRST_DESCRIPTOR = 3


def attach(descriptor: int, *, most: int, serves: bool = True) -> Plane:
    """Return a plane that owns /dev/fuse, open as `descriptor`, which becomes one end of a pair of sockets.

    most: bytes of what may be published. serves: whether it answers any read itself. The threads do not run yet.
    """
    device = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
    os.set_blocking(device, False)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closing(theirs):
        os.dup2(theirs.fileno(), descriptor, inheritable=False)
    return Plane(device, ours.detach(), most, serves)
