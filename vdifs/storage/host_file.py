"""One open source file: positional reads, its fingerprint, its size. No cursor, no mmap, no lock taken.

A file is opened once and never again by path: renaming or removing it changes nothing for who has it open.

    the time stamps are those that were taken             unchanged: one system call, nothing else
    they are others, and a witness says that nothing      unchanged: they are taken anew; while they are so young that
    was written, and they are the same behind it          a write might leave them so, the witness is asked each time
    else                                                  changed, for ever
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Self

from vdifs.errors import (
    CUT_SHORT,
    FormatError,
    InUseError,
    SourceChangedError,
    StorageError,
    UsageError,
    VdifsError,
    WouldBlock,
    printable,
)
from vdifs.linux.locks import has_writer
from vdifs.storage.descriptor_users import Users
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.witness import Finding, Witness

__all__ = ["HostFile"]

_SETTLE_TRIES = 3
_LOOKS = 10
_ANYTHING = frozenset(Finding)
_PROOFS = frozenset({Finding.NOTHING, Finding.UNSEEN})
"""What a witness says that has looked."""
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class HostFile:
    """An open regular file. `path`: as it was opened; `name`: that for messages. Safe to use from several threads."""

    __slots__ = (
        "_asks_always", "_changed", "_first", "_links", "_nowait", "_unsure", "_witness",
        "fd", "fingerprint", "name", "path", "size", "status", "users",
    )  # fmt: skip

    def __init__(self, fd: int, path: str) -> None:
        """Take over `fd`. Raises StorageError, with `fd` closed, where it is no regular file."""
        self.fd = fd
        self.users = Users(fd)
        self.path = path
        self.name = printable(path)
        self._witness: Witness | None = None
        self._changed = self._unsure = self._asks_always = False
        self._take(os.fstat(fd))
        self._first = self.fingerprint
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            remedy = "only regular files can be images"
            raise StorageError("not a regular file", where=path, remedy=remedy, errno=errno.EINVAL)
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
            remedy = _REMEDIES.get(error.errno or 0, "check the disk or server below it")
            raise StorageError.from_os(path, error, remedy) from error

    def close(self) -> None:
        """Close the file, once no thread is reading it; more than once is harmless. Later uses are UsageErrors."""
        self.fd = -1
        if self._witness is not None:
            self._witness.close()
        self.users.close()

    def watch(self, *, strict: bool = True) -> None:
        """Have the kernel tell what is written from now on; to be called before any read.

        strict: on a file system where a mapping writes without moving the time stamps, a program that has the file open
        for writing is a change.
        """
        self._witness = Witness(self.fd)
        self._asks_always = self._unsure = strict and self._witness.silent_writers
        if (earlier := self._witness.go_back()) is not None and earlier[:3] == self.fingerprint[:3]:
            self.fingerprint = self._first = earlier
            if self._proves(os.fstat(self.fd), _PROOFS):
                return
        self._begin()

    def linger(self) -> None:
        """Be watched for a moment longer than it is open: who opens it again then knows what it was before."""
        if self._witness is not None:
            self._witness.linger()

    def settle(self) -> None:
        """Wait until the time stamps are so old that the next write must give others; to be called before any read.

        Where the kernel's clock for them ticks every few milliseconds, two writes within a tick look like one. Raises
        SourceChangedError for a file that goes on changing, its metadata excepted.
        """
        stands = False
        for _ in range(_SETTLE_TRIES):
            if not (left := self.fingerprint.racy_for_ns(time.time_ns())):
                return
            time.sleep(left / 1e9)
            stands = self._proves(os.fstat(self.fd), _PROOFS)
            if not stands:
                self._begin()
        if not stands and self.fingerprint.racy_for_ns(time.time_ns()):
            what, remedy = "it kept changing while it was opened", "wait for its writer to end"
            raise SourceChangedError(what, where=self.path, remedy=remedy)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if the file is another than when it was opened, now and ever after."""
        try:
            st, then = os.fstat(self.fd), self.fingerprint  # if it is closed meanwhile, perhaps those of another file
        except OSError as error:
            raise self._read_error(0, error) from error
        if (
            st.st_ctime_ns == then.ctime_ns
            and st.st_mtime_ns == then.mtime_ns
            and st.st_size == then.size
            and not self._unsure
        ):
            return  # device and inode cannot change
        with self.users:
            same = self.fd >= 0 and not self._changed and self._proves(os.fstat(self.fd), _ANYTHING)
            if self.fd < 0:  # and its witness perhaps dismissed meanwhile
                raise self._was_closed()
            if not same:
                self._changed = self._unsure = True
                what, remedy = "changed since it was opened", "open it again for its new contents"
                raise SourceChangedError(what, where=self.path, remedy=remedy)

    def was(self, fingerprint: Fingerprint, *, settled: bool) -> bool:
        """Tell whether the file, which holds now what it held then, has had that fingerprint.

        settled: not so where a write might still have left it as it is.
        """
        now, first = self.fingerprint, self._first
        if fingerprint == now:
            return not (settled and self._is_racy)
        return (
            fingerprint[:3] == now[:3]
            and first.ctime_ns <= fingerprint.ctime_ns <= now.ctime_ns
            and fingerprint.mtime_ns in (first.mtime_ns, now.mtime_ns)
        )

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
        if not written and (self._witness or Witness(self.fd, watching=False)).is_open_for_writing():
            written, by_whom = True, f", which has it open for that ('fuser -v {self.name}' names it)"
        if written:
            raise InUseError(
                f"a virtual machine or another program is writing it{by_whom}",
                where=self.path,
                remedy="wait for its end, or have it served as it is with --live allow",
            )

    @property
    def _is_racy(self) -> bool:
        return self._unsure and not self._asks_always

    def _begin(self) -> None:
        """Take the file as it is now."""
        if self._witness is not None:
            self._witness.begin()
        self._take(os.fstat(self.fd))
        self._first = self.fingerprint
        if self._witness is not None:
            self._witness.note(self.fingerprint)

    def _proves(self, st: os.stat_result, enough: Container[Finding]) -> bool:
        """Tell whether nothing was written though the file has the stat `st` now; its new time stamps are taken then.

        enough: what the witness may say.
        """
        for _ in range(_LOOKS):
            asked = time.time_ns()
            if st.st_size != self.fingerprint.size or (found := self._found()) not in enough:
                return False
            if not self._is_explained(st, found):
                return False
            again = os.fstat(self.fd)
            if _stamps(again) != _stamps(st):
                st = again
                continue
            if found is Finding.NOTHING and st.st_mtime_ns != self.fingerprint.mtime_ns and not self._saw_metadata():
                continue  # a program was between setting the time and telling of it
            self._renew(st, asked, found)
            return True
        return False

    def _found(self) -> Finding:
        return Finding.UNKNOWN if self._witness is None else self._witness.finding()

    def _saw_metadata(self) -> bool:
        return self._witness is not None and self._witness.saw_metadata()

    def _is_explained(self, st: os.stat_result, found: Finding) -> bool:
        """Tell whether what was found lets time stamps be those of `st`.

        Where nothing can be asked a ctime that moved together with the link count is a rename, link or unlink.
        """
        then = self.fingerprint
        match found:
            case Finding.NOTHING:
                return True
            case Finding.UNSEEN:
                return st.st_mtime_ns == then.mtime_ns
            case Finding.UNKNOWN:
                linked = st.st_nlink != self._links or st.st_ctime_ns == then.ctime_ns
                return st.st_mtime_ns == then.mtime_ns and linked
            case _:
                return False

    def _renew(self, st: os.stat_result, asked_ns: int, found: Finding) -> None:
        """Take new time stamps; asked_ns: when the witness was asked, which found nothing."""
        racy = found is not Finding.UNKNOWN and Fingerprint.of(st).racy_for_ns(asked_ns) > 0
        self._unsure = self._asks_always or racy  # before the time stamps, as other threads compare these
        self._take(st)
        if self._witness is not None:
            self._witness.accept()

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
                with self.users:
                    count = os.preadv(self.fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise self._read_error(offset + done, error) from error
            if not count:
                buffer[done:] = bytes(len(buffer) - done)
                return
            done += count

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
                raise self._was_closed()
            yield self.fd

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            with self.users:
                return os.pread(self.fd, length, offset)
        except OSError as error:
            raise self._read_error(offset, error) from error

    def _read_cached(self, offset: int, buffer: memoryview) -> int:
        try:
            with self.users:
                return os.preadv(self.fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise self._read_error(offset, error) from error
            self._nowait = False
            return 0

    def _was_closed(self) -> UsageError:
        return UsageError("it was closed", where=self.path, remedy="open the image again")

    def _read_error(self, offset: int, error: OSError) -> VdifsError:
        if self.fd < 0:
            return self._was_closed()
        return StorageError(
            f"reading at {offset:#x} failed: {error.strerror}",
            where=self.path,
            remedy="check the disk below",
            errno=errno.EIO,
            about=("reading", self.path),
        )


def _stamps(st: os.stat_result) -> tuple[int, int, int]:
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns


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
