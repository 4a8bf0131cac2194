"""One open source file: positional reads, its fingerprint, its size. No cursor, no mmap, no lock taken.

A file is opened once and never again by path: renaming or removing it changes nothing for who has it open. Whether it
is as it was when it was opened is asked of its generation.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from vdifs.errors import CUT_SHORT, FormatError, InUseError, StorageError, VdifsError, WouldBlock, printable
from vdifs.linux.locks import has_writer
from vdifs.storage.descriptor_users import Users
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.generation import Generation
from vdifs.storage.read_errors import read_error, was_closed

__all__ = ["HostFile"]

_NEVER = (-1, -1)

_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class HostFile:
    """An open regular file. `path`: as it was opened; `name`: that for messages. Safe to use from several threads.

    check_unchanged: that of Generation itself, as every read calls it.
    """

    __slots__ = ("_generation", "_nowait", "check_unchanged", "fd", "name", "path", "size", "users")

    def __init__(self, fd: int, path: str) -> None:
        """Take over `fd`. Raises StorageError, with `fd` closed, where it is no regular file."""
        self.fd = fd
        self.users = Users(fd)
        self.path = path
        self.name = printable(path)
        self._generation = Generation(fd, self.users, path)
        self.check_unchanged = self._generation.check_unchanged
        self.size = self.status.st_size
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            remedy = "only regular files can be images"
            raise StorageError("not a regular file", where=path, remedy=remedy, errno=errno.EINVAL)
        self._nowait = True

    @classmethod
    def open(cls, path: str, opener: Callable[[int], int]) -> Self:
        """Open through `opener`, which takes open(2) flags and returns a descriptor; `path` is what users call it."""
        try:
            return cls(opener(_OPEN_FLAGS), path)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "check the disk or server below it")
            raise StorageError.from_os(path, error, remedy) from error

    def close(self) -> None:
        """Close the file, once no thread is reading it; more than once is harmless. Later uses are UsageErrors."""
        self.fd = -1
        self._generation.close()
        self.users.close()

    @property
    def status(self) -> os.stat_result:
        """What stat told of it when its time stamps were taken last."""
        return self._generation.status

    @property
    def fingerprint(self) -> Fingerprint:
        """The present fingerprint of what was opened."""
        return self._generation.fingerprint

    def watch(self, *, strict: bool = True) -> None:
        """See Generation."""
        self._generation.watch(strict=strict)
        self.size = self.status.st_size

    def linger(self) -> None:
        """See Generation."""
        self._generation.linger()

    def settle(self) -> None:
        """See Generation."""
        self._generation.settle()
        self.size = self.status.st_size

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """Descriptor, size, mtime and ctime: as long as fstat(2) says the same, the file is unchanged.

        Where that is no proof, the times are ones that no file has.
        """
        size, mtime_ns, ctime_ns = self._generation.stamps or (self.size, *_NEVER)
        return self.fd, size, mtime_ns, ctime_ns

    def was(self, fingerprint: Fingerprint, *, settled: bool) -> bool:
        """See Generation."""
        return self._generation.was(fingerprint, settled=settled)

    def check_no_writer(self) -> None:
        """Raise InUseError if a virtual machine, or any other program as far as can be told, is writing the file."""
        try:
            written = has_writer(self.fd)
        except OSError as error:
            raise StorageError(
                f"{error.strerror}: its locks cannot be asked for",
                where=self.path,
                remedy="check the disk or server below it, or have it served as it is with --live allow",
                errno=error.errno,
            ) from error
        by_whom = ""
        if not written and self._generation.is_open_for_writing():
            written, by_whom = True, f", which has it open for that ('fuser -v {self.name}' names it)"
        if written:
            raise InUseError(
                f"a virtual machine or another program is writing it{by_whom}",
                where=self.path,
                remedy="wait for its end, or have it served as it is with --live allow",
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

    def read_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        """Return what `read_at` does for each of `offsets`: for many small reads."""
        found = []
        with self.users:
            for offset in offsets:
                try:
                    data = os.pread(self.fd, length, offset)
                except OSError as error:
                    raise read_error(self.path, self.fd, offset, error) from error
                found.append(data if len(data) == length else self.read_at(offset, length))
        return found

    def readinto_at(self, offset: int, buffer: memoryview, *, wait: bool = True) -> None:
        """Fill `buffer` from `offset`, with zeros beyond the end of the file.

        wait=False: read only what is in the page cache, raise WouldBlock for the rest.
        """
        done = 0 if wait or not self._nowait else self._read_cached(offset, buffer)
        if not wait and done < min(len(buffer), self.size - offset):
            raise WouldBlock
        while done < len(buffer):
            try:
                with self.users:
                    count = os.preadv(self.fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise read_error(self.path, self.fd, offset + done, error) from error
            if not count:
                buffer[done:] = bytes(len(buffer) - done)
                return
            done += count

    def read_ahead(self, offset: int, length: int) -> None:
        """Have the kernel read `length` bytes from `offset` on into its page cache, and do not wait for them."""
        with suppress(OSError, VdifsError), self.borrowed() as fd:  # a hint, and no more
            os.posix_fadvise(fd, offset, length, os.POSIX_FADV_WILLNEED)

    def read_table(self, what: str, offset: int, length: int, cluster_size: int) -> bytes:
        """Return the `length` bytes of the table `what` at `offset`.

        Only the file's last cluster may end early; a table beyond the end raises FormatError, where QEMU reads zeros.
        """
        if offset >= self.size or offset + length > -(-self.size // cluster_size) * cluster_size:
            raise FormatError(
                f"the {what} at {offset:#x} lies beyond the end of the file at {self.size:#x}",
                where=self.path,
                remedy=CUT_SHORT,
            )
        return self.read_at(offset, length)

    @contextmanager
    def borrowed(self) -> Iterator[int]:
        """Lend the descriptor, for system calls that this class has no method for: meanwhile it stays the file's own.

        Raises UsageError for a file that was closed.
        """
        with self.users:
            if self.fd < 0:
                raise was_closed(self.path)
            yield self.fd

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            with self.users:
                return os.pread(self.fd, length, offset)
        except OSError as error:
            raise read_error(self.path, self.fd, offset, error) from error

    def _read_cached(self, offset: int, buffer: memoryview) -> int:
        try:
            with self.users:
                return os.preadv(self.fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise read_error(self.path, self.fd, offset, error) from error
            self._nowait = False
            return 0


_REMEDIES = {
    errno.ENOENT: "restore it, or correct the name",
    errno.ENOTDIR: "restore it, or correct the name",
    errno.ENAMETOOLONG: "correct the name",
    errno.EACCES: "make it readable for this user",
    errno.EPERM: "make it readable for this user",
    errno.ELOOP: "symbolic links are not followed; name the file itself",
    errno.ENXIO: "only regular files can be images",
    errno.EXDEV: "the name leads out of the trusted directories",
    errno.EMFILE: "allow more open files ('ulimit -n 65536', LimitNOFILE=65536), or use fewer images at once",
    errno.ENFILE: "this machine allows no more (fs.file-max)",
}
