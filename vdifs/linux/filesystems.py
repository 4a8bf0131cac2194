"""What file system an open file lies on, and what Python's os module lacks of its calls."""

import errno
import struct

from vdifs.linux.libc import call

__all__ = [
    "AUTOFS", "BTRFS", "EXT", "F2FS", "FUSE", "OVERLAY", "RAMFS", "TMPFS", "XFS",
    "filesystem_type", "mount_number", "reserve",
]  # fmt: skip

EXT, XFS, BTRFS, F2FS = 0xEF53, 0x58465342, 0x9123683E, 0xF2F52010
"""f_type in statfs(2) of ext2/3/4, XFS, btrfs, f2fs."""
TMPFS, RAMFS, OVERLAY, FUSE, AUTOFS = 0x01021994, 0x858458F6, 0x794C7630, 0x65735546, 0x0187

_EMPTY_PATH, _BTIME, _MNT_ID_UNIQUE = 0x1000, 0x800, 0x4000
_STATX = struct.Struct("I76xqi48xQ104x")  # stx_mask, seconds and nanoseconds of stx_btime, stx_mnt_id
_STATFS = struct.Struct("l256x")  # its first field, f_type, and room for the rest


def filesystem_type(descriptor: int) -> int | None:
    """Return f_type of statfs(2), None where it cannot be told. May block: it asks the file system."""
    found = bytearray(_STATFS.size)
    try:
        call("fstatfs", descriptor, found)
    except OSError:
        return None
    return int(_STATFS.unpack(found)[0]) & 0xFFFFFFFF


def mount_number(descriptor: int) -> int:
    """Return what tells the file system that is mounted at an open folder from others with the same device number.

    That is the number of the mount, which no other gets, before Linux 6.8 when its root was made; 0 if neither is told.
    """
    found = bytearray(_STATX.size)
    try:
        call("statx", descriptor, b"", _EMPTY_PATH, _BTIME | _MNT_ID_UNIQUE, found)
    except (OSError, AttributeError):  # of the kernel, of the C library
        return 0
    mask, seconds, nanoseconds, number = _STATX.unpack(found)
    if mask & _MNT_ID_UNIQUE:
        return int(number)
    return int(seconds * 1_000_000_000 + nanoseconds) if mask & _BTIME else 0


def reserve(descriptor: int, offset: int, length: int) -> bool:
    """Allocate blocks for a range of a file, as fallocate(2); return whether the file system can do that.

    Unlike os.posix_fallocate it writes nothing where the file system cannot. Raises OSError.
    """
    while True:
        try:
            call("fallocate64", descriptor, 0, offset, length)
        except InterruptedError:
            continue
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise
        return True
