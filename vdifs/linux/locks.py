"""QEMU's locks on an image: asked about, never taken, as one of ours would keep a virtual machine from starting.

A program that holds permission i on an image has a read lock on its byte 100 + i:

    byte   100 read   101 WRITE   102 write unchanged   103 RESIZE        101 or 103 held: a live writer

and one on its byte 200 + i if no other program may have that permission. The base of a running machine has 100, 201 and
203 held. Locks are a hint, as other writers take none.
"""

import errno
import fcntl
import os
import struct
from typing import Final, Self

__all__ = ["LockTable", "has_user", "has_writer"]

_WRITE, _RESIZE = 101, 103
_NOT_SHARED = 100
_FLOCK: Final = struct.Struct("hhqqi0q")
_CHUNK = 1 << 16


def has_writer(fd: int) -> bool:
    """Tell whether the lock of a live writer is held on an open file. False where the file system has no locks."""
    return _is_held(fd, _WRITE) or _is_held(fd, _RESIZE)


def has_user(fd: int) -> bool:
    """Tell whether a program that uses an open file lets no other write it, as `qemu-img convert` onto it would."""
    return has_writer(fd) or any(_is_held(fd, byte + _NOT_SHARED) for byte in (_WRITE, _RESIZE))


def _is_held(fd: int, byte: int) -> bool:
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS):
            return False
        raise
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


class LockTable:
    """The locks of this machine, read as one file: which inodes are worth asking about, however many files there are.

    On some file systems (btrfs) the device in it is not that of stat, and a network file system's locks may be absent.
    """

    def __init__(self, fd: int | None) -> None:
        """Take over the descriptor of /proc/locks, None where there is none."""
        self._fd = fd

    @classmethod
    def open(cls) -> Self:
        """Open /proc/locks, so that it can be read later by a process that may open nothing any more."""
        try:
            return cls(os.open("/proc/locks", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return cls(None)

    def close(self) -> None:
        """Close the table; more than once is harmless."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def written_inodes(self) -> frozenset[int]:
        """Return the inode numbers, on whatever device, with a lock that may be a live writer's."""
        if self._fd is None:
            return frozenset()
        return frozenset(_inode(line) for line in self._read(self._fd).splitlines() if _may_be_a_writers(line))

    @staticmethod
    def _read(fd: int) -> bytes:
        found = b""
        try:
            while chunk := os.pread(fd, _CHUNK, len(found)):
                found += chunk
        except OSError:
            return b""
        return found


def _may_be_a_writers(line: bytes) -> bool:
    """Tell it of a line such as `7: OFDLCK ADVISORY READ -1 fe:00:1234 100 101`, which ends in a closed range."""
    words = line.split()
    if len(words) != 8 or words[1] not in (b"OFDLCK", b"POSIX"):
        return False  # `->` in front stands for one who waits for a lock
    first, last = int(words[6]), _RESIZE if words[7] == b"EOF" else int(words[7])
    return any(first <= byte <= last for byte in (_WRITE, _RESIZE))


def _inode(line: bytes) -> int:
    return int(line.split()[5].rpartition(b":")[2])
