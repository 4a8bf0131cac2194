"""Waiting for a program that changes the metadata of an open file: time stamps and inotify have that in two steps.

    utimensat(2)    lock [ time stamps  - - waits for the journal - -  IN_ATTRIB ] unlock
    FIEMAP                              |.......................................|  lock, unlock

Both take the lock of the inode. So a program that has seen new time stamps, and then asks where the extents of the file
are, finds the event queued.
"""

import fcntl
import os
import struct
from contextlib import suppress

__all__ = ["wait_for_changes"]

_FS_IOC_FIEMAP = 0xC020_660B
_COUNT_IN_FIRST_BYTE = struct.pack("=QQIIII", 0, 1, 0, 0, 0, 0)


def wait_for_changes(fd: int) -> bool:
    """Return True once what was changing the metadata of an open file has ended; False if that cannot be told.

    tmpfs has no FIEMAP, but takes the same lock to look for data; ramfs has neither, and no journal.
    """
    try:
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, _COUNT_IN_FIRST_BYTE)
    except OSError:
        with suppress(OSError):
            os.lseek(fd, 0, os.SEEK_DATA)
        return False
    return True
