"""Whether a file is open for writing, by a read lease that is asked for and, if it is had, given back at once.

The kernel gives one only while no program can write the file: through a descriptor, a call that has not ended yet, or a
shared mapping that outlives its descriptor. So this tells of writers whose writes move no time stamp.

    A reader has the file open     lease is had     False
    a writer has it open           EAGAIN           True
    another user's file            EACCES           None: only its owner, and root, may ask
    a server's file, a device      not asked        None

It takes nothing from any program. One that opens the file for writing between the two calls waits until the second,
a microsecond later; only one that asked not to wait (O_NONBLOCK) meets EWOULDBLOCK. Both calls are made without
letting another thread run. The lease's holder is told by a signal, SIGIO by default, which would end the process: it
is SIGURG here, which is ignored unless a program wants it. Giving a lease back makes it SIGIO again.
"""

import ctypes
import errno
import fcntl
import signal

from vdifs.source.filesystem import BTRFS, EXT, F2FS, FUSE, OVERLAY, RAMFS, TMPFS, XFS

__all__ = ["WITH_LEASES", "is_open_for_writing"]

WITH_LEASES = frozenset({EXT, XFS, BTRFS, F2FS, TMPFS, RAMFS, OVERLAY, FUSE})
"""File systems whose EAGAIN says what is said above; servers have other reasons for it."""

_libc = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL, it keeps the interpreter's lock
_libc.fcntl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)


def is_open_for_writing(fd: int) -> bool | None:
    """Tell whether any program has a file open for writing, None where that cannot be told. `fd` cannot write."""
    if _libc.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG) != 0:
        return None
    if _libc.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK) == 0:
        _libc.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    return True if ctypes.get_errno() == errno.EAGAIN else None
