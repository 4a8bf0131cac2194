"""Whether a file is open for writing, by a read lease that is asked for and, if it is had, given back at once.

The kernel gives one only while no program can write the file: through a descriptor, a call that has not ended yet, or a
shared mapping that outlives its descriptor. So this tells of writers whose writes move no time stamp.

    A reader has the file open     lease is had     False
    a writer has it open           EAGAIN           True
    another user's file            EACCES           None: only its owner, and root, may ask
    a server's file, a device      not asked        None

It takes nothing from any program. One that opens the file for writing while the lease stands, which is for a
microsecond, waits until it is given back; only one that asked not to wait (O_NONBLOCK) meets EWOULDBLOCK. A mount asks
when an image is opened, and not while it is watched, unless its time stamps move. The lease's holder is told by a
signal, SIGIO by default, which would end the process: it is SIGURG here, which is ignored unless a program wants it.

All three calls are made by one call of Python's, so that it runs no other thread and no handler of a signal between
them. That would let the lease stand for as long as others are busy. Worse, giving a lease back makes its signal SIGIO
again, and another thread may ask about the same descriptor.
"""

import ctypes
import errno
import fcntl
import signal
from functools import partial

from vdifs.linux.filesystems import BTRFS, EXT, F2FS, FUSE, OVERLAY, RAMFS, TMPFS, XFS

__all__ = ["WITH_LEASES", "is_open_for_writing"]

WITH_LEASES = frozenset({EXT, XFS, BTRFS, F2FS, TMPFS, RAMFS, OVERLAY, FUSE})
"""File systems whose EAGAIN says what is said above; servers have other reasons for it."""

# Unlike CDLL, a PyDLL keeps the interpreter's lock. Only `_ask` leaves its error where `ctypes.get_errno` finds it.
_ask, _give_back = ctypes.PyDLL(None, use_errno=True).fcntl, ctypes.PyDLL(None).fcntl
_ask.argtypes = _give_back.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)


def is_open_for_writing(fd: int) -> bool | None:
    """Tell whether any program has a file open for writing, None where that cannot be told. `fd` cannot write."""
    told, had, _ = map(
        partial.__call__,
        (
            partial(_ask, fd, fcntl.F_SETSIG, signal.SIGURG),
            partial(_ask, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
            partial(_give_back, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK),
        ),
    )
    if told == 0 == had:
        return False
    return True if ctypes.get_errno() == errno.EAGAIN else None
