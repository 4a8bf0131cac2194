"""What file system an open file lies on, and what Python's os module lacks of its calls."""

import ctypes
import errno
import os

__all__ = ["AUTOFS", "BTRFS", "EXT", "F2FS", "FUSE", "OVERLAY", "RAMFS", "TMPFS", "XFS", "filesystem_type", "reserve"]

EXT, XFS, BTRFS, F2FS = 0xEF53, 0x58465342, 0x9123683E, 0xF2F52010
"""f_type in statfs(2) of ext2/3/4, XFS, btrfs, f2fs."""
TMPFS, RAMFS, OVERLAY, FUSE, AUTOFS = 0x01021994, 0x858458F6, 0x794C7630, 0x65735546, 0x0187


class _Statfs(ctypes.Structure):
    """struct statfs: its first field, and room for the rest."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 256))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def filesystem_type(descriptor: int) -> int | None:
    """Return f_type of statfs(2), None where it cannot be told. May block: it asks the file system."""
    result = _Statfs()
    failed = _libc.fstatfs(descriptor, ctypes.byref(result)) != 0
    return None if failed else int(result.f_type) & 0xFFFFFFFF


def reserve(descriptor: int, offset: int, length: int) -> bool:
    """Allocate blocks for a range of a file, as fallocate(2); return whether the file system can do that.

    Unlike os.posix_fallocate it writes nothing where the file system cannot. Raises OSError.
    """
    while _libc.fallocate64(descriptor, 0, offset, length) != 0:
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True
