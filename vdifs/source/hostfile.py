"""One open source file: positional reads, its fingerprint, its size, its holes. No cursor, no mmap, no lock taken.

A file is opened once and never again by path: renaming or removing it changes nothing for who has it open.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, Self

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from vdifs.errors import FormatError, InUseError, SourceChangedError, StorageError, WouldBlock, printable
from vdifs.source.holes import MAX_DATA_RUNS, data_edges
from vdifs.source.locks import has_writer

__all__ = ["Fingerprint", "HostFile", "clear"]

YOUNG_NS = 20_000_000
"""Time stamps younger than that do not tell one state from the next."""
COARSE_YOUNG_NS = 2_500_000_000
"""The same where they are whole seconds: ext3, ext4 with inodes of 128 bytes, FAT (two seconds), some servers."""
_SECOND_NS = 1_000_000_000
_SETTLE_TRIES = 3
_MOST_EDGES = 4 * MAX_DATA_RUNS
"""Edges of runs of data that are kept, of all files together: 2 MiB."""
_devices: dict[int, int] = {}
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Fingerprint(NamedTuple):
    """What tells one state of a file from another."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, st: os.stat_result) -> Self:
        """Return the fingerprint of a stat result."""
        mtime_ns, ctime_ns = st.st_mtime_ns, st.st_ctime_ns
        device = _devices.setdefault(st.st_dev, st.st_dev)  # catalogs keep very many of these: equal numbers are shared
        return cls(device, st.st_ino, st.st_size, mtime_ns, mtime_ns if ctime_ns == mtime_ns else ctime_ns)

    @property
    def anywhere(self) -> tuple[int, int, int, int]:
        """The same without the device: its number is another after a reboot or a remount, and in every snapshot."""
        return self.ino, self.size, self.mtime_ns, self.ctime_ns

    def youth_ns(self, now_ns: int) -> int:
        """Return for how long another write may still leave the time stamps as they are: 0 for most files."""
        span = self._tells_after_ns
        ages = (now_ns - self.mtime_ns, now_ns - self.ctime_ns)  # each alone: an mtime may be set far into the future
        return max(span - age if -span < age < span else 0 for age in ages)

    def was_young(self, first_ns: int, last_ns: int) -> bool:
        """Tell whether a write after a look at the file, between those times, may leave its stamps as they are."""
        span = self._tells_after_ns
        return any(first_ns - span < stamp < last_ns + span for stamp in (self.mtime_ns, self.ctime_ns))

    @property
    def _tells_after_ns(self) -> int:
        return YOUNG_NS if self.ctime_ns % _SECOND_NS else COARSE_YOUNG_NS  # nobody can set a ctime


_edges: LRUCache[Fingerprint, NDArray[np.int64]] = LRUCache(_MOST_EDGES, getsizeof=lambda edges: len(edges) + 32)
_edges_lock = Lock()


class HostFile:
    """An open regular file. `path`: as it was opened; `name`: that for messages. Safe to use from several threads."""

    __slots__ = ("_links", "_nowait", "fd", "fingerprint", "name", "path", "size", "status")

    def __init__(self, fd: int, path: str) -> None:
        """Take over `fd`. Raises StorageError, with `fd` closed, where it is no regular file."""
        self.fd = fd
        self.path = path
        self.name = printable(path)
        self._take(os.fstat(fd))
        if not stat.S_ISREG(self.status.st_mode):
            os.close(fd)
            raise StorageError(f"{self.name}: not a regular file: only regular files can be images", errno=errno.EINVAL)
        self._nowait = True

    def _take(self, status: os.stat_result) -> None:
        self.status = status
        self.fingerprint = Fingerprint.of(status)
        self.size = status.st_size
        self._links = status.st_nlink

    @classmethod
    def open(cls, path: str, opener: Callable[[int], int]) -> Self:
        """Open through `opener`, which takes open(2) flags and returns a descriptor; `path` is what users call it."""
        try:
            return cls(opener(_OPEN_FLAGS), path)
        except OSError as error:
            raise StorageError.from_os(path, error, _REMEDIES.get(error.errno or 0, "cannot be opened")) from error

    def close(self) -> None:
        """Close the file; more than once is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def settle(self) -> None:
        """Wait until the time stamps are so old that the next write must give others; to be called before any read.

        Where the kernel's clock for them ticks every few milliseconds, two writes within a tick look like one. Raises
        SourceChangedError for a file that goes on changing.
        """
        for _ in range(_SETTLE_TRIES):
            if not (left := self.fingerprint.youth_ns(time.time_ns())):
                return
            time.sleep(left / 1e9)
            self._take(os.fstat(self.fd))
        if self.fingerprint.youth_ns(time.time_ns()):
            raise SourceChangedError(f"{self.name}: it kept changing while it was opened: wait for its writer to end")

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if the file is another than when it was opened.

        A ctime that moved together with the link count, size and mtime unmoved, is a rename, link or unlink: no change.
        """
        st, then = os.fstat(self.fd), self.fingerprint
        if st.st_ctime_ns == then.ctime_ns and st.st_mtime_ns == then.mtime_ns and st.st_size == then.size:
            return  # device and inode cannot change
        now = Fingerprint.of(st)
        if st.st_nlink != self._links and now._replace(ctime_ns=0) == self.fingerprint._replace(ctime_ns=0):
            self.fingerprint, self._links = now, st.st_nlink
            return
        raise SourceChangedError(f"{self.name}: changed since it was opened: open it again for its new contents")

    def check_no_writer(self) -> None:
        """Raise InUseError if a virtual machine, or another program that takes QEMU's locks, is writing the file."""
        try:
            written = has_writer(self.fd)
        except OSError as error:
            raise StorageError.from_os(self.name, error, "its locks cannot be asked for") from error
        if written:
            raise InUseError(
                f"{self.name}: a virtual machine or another program is writing it: wait for its end, "
                "or have it served as it is with --live allow"
            )

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; what lies beyond the end of the file reads as zeros."""
        data = self._pread(offset, length)
        while len(data) < length:
            more = self._pread(offset + len(data), length - len(data))
            if not more:
                return data.ljust(length, b"\0")
            data += more
        return data

    def readinto_at(self, offset: int, buffer: memoryview, *, wait: bool = True) -> None:
        """Fill `buffer` from `offset`, with zeros beyond the end of the file.

        wait=False: read only what is in the page cache, raise WouldBlock for the rest.
        """
        done = 0 if wait or not self._nowait else self._read_cached(offset, buffer)
        if not wait and done < min(len(buffer), self.size - offset):
            raise WouldBlock
        while done < len(buffer):
            try:
                count = os.preadv(self.fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise self._read_error(offset + done, error) from error
            if not count:
                clear(buffer[done:])
                return
            done += count

    def read_table(self, what: str, offset: int, length: int, cluster_size: int) -> bytes:
        """Return the `length` bytes of the table `what` at `offset`.

        Only the file's last cluster may end early; a table beyond the end raises FormatError, where QEMU reads zeros.
        """
        if offset >= self.size or offset + length > -(-self.size // cluster_size) * cluster_size:
            raise FormatError(
                f"{self.name}: the {what} at {offset:#x} lies beyond the end of the file at {self.size:#x}: "
                "the file was cut short; restore it from a copy"
            )
        return self.read_at(offset, length)

    def data_edges(self) -> NDArray[np.int64]:
        """Return where data start and end, in turns; all else are holes. See `vdifs.source.holes`.

        They are looked for once in each state of a file, of the last few files: each of its snapshots is opened alone.
        """
        if self.fingerprint.youth_ns(time.time_ns()):
            return data_edges(self.fd, self.size)
        with _edges_lock:
            known: NDArray[np.int64] | None = _edges.get(self.fingerprint)
        if known is None:
            known = data_edges(self.fd, self.size)
            known.flags.writeable = False
            with _edges_lock:
                _edges[self.fingerprint] = known
        return known

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self.fd, length, offset)
        except OSError as error:
            raise self._read_error(offset, error) from error

    def _read_cached(self, offset: int, buffer: memoryview) -> int:
        try:
            return os.preadv(self.fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise self._read_error(offset, error) from error
            self._nowait = False
            return 0

    def _read_error(self, offset: int, error: OSError) -> StorageError:
        failed = StorageError(
            f"{self.name}: reading at {offset:#x} failed: {error.strerror}: check the disk below", errno=errno.EIO
        )
        failed.about = "reading", self.path
        return failed


def clear(buffer: memoryview) -> None:
    """Fill `buffer`, one of bytes, with zeros."""
    np.frombuffer(buffer, np.uint8)[:] = 0


_REMEDIES = {
    errno.ENOENT: "restore it, or correct the name",
    errno.EACCES: "make it readable for this user",
    errno.ELOOP: "symbolic links are not followed; name the file itself",
    errno.ENXIO: "only regular files can be images",
    errno.EXDEV: "the name leads out of the trusted directories",
    errno.EMFILE: "allow more open files ('ulimit -n', LimitNOFILE=), or use fewer images at once",
    errno.ENFILE: "this machine allows no more (fs.file-max)",
}
