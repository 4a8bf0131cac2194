"""Every error that vdifs raises on purpose, with the errno a mount answers and the exit status a command ends with.

An error is a value: what is wrong, where, and what to do. Its message is one line, made of these in one place:

    /vms/a.qcow2: in the L1 table at 0x30000: L1 entry 0 points to 0x123400, ...: restore it from a copy, or ...
    where, from the outermost place inwards   what was found, what was expected   remedy

Two boundaries turn errors into something else: the FUSE operations (errno) and the command line (one line, status).
"""

import errno as _errno
import os
from copy import copy
from sys import intern
from typing import Self, TypedDict, TypeVar, Unpack

__all__ = [
    "CUT_SHORT",
    "ChainError",
    "FormatError",
    "InUseError",
    "Interrupted",
    "PolicyError",
    "SourceChangedError",
    "StorageError",
    "UnsupportedError",
    "UsageError",
    "VdifsError",
    "WouldBlock",
    "message_of",
    "printable",
    "quoted",
]


def printable(name: str | bytes) -> str:
    """Return a file name for a message: one line, control characters and undecodable bytes as escapes.

    Names come from images and folders that another user wrote, so none of them may move a terminal's cursor or
    forge a second log line.
    """
    text = os.fsdecode(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def quoted(name: str | bytes) -> str:
    """Return a name for a message as `printable` does, in quotation marks."""
    return f"'{printable(name)}'"


def message_of(what: str, where: str | None = None, remedy: str | None = None) -> str:
    """Return the one line that says what is wrong, where, and what to do. where: printable."""
    return ": ".join(each for each in (where, what, remedy) if each is not None)


_Error = TypeVar("_Error", bound="VdifsError")


class VdifsError(Exception):
    """Any failure of vdifs. errno: what a system call on the mount gives. exit_code: what the command ends with.

    remedy: what to do. A class has one if most of its errors share it; else each error has its own.
    about: what a log need not be told twice in a short while, whatever else differs; None: this very message.
    passing: a disk, a server or this machine failed, not an image, which may be well.
    unreachable: a file could not be opened or asked, whatever it holds: the next search of the source tells why.
    """

    errno: int = _errno.EIO
    exit_code: int = 1
    about: object = None
    remedy: str | None = None
    passing: bool = False
    unreachable: bool = False

    args: tuple[str, ...]
    """What and, if it is known, where: many errors are kept that have nothing else of their own."""

    def __init__(
        self,
        what: str,
        where: str | bytes | None = None,
        *,
        remedy: str | None = None,
        errno: int | None = None,
        about: object = None,
    ) -> None:
        """Take what there is to say. where: as a name is, not yet printable; it is made so here."""
        super().__init__(what, *(() if where is None else (printable(where),)))
        if remedy is not None:
            self.remedy = remedy
        if errno is not None:
            self.errno = errno
        if about is not None:
            self.about = about

    @property
    def what(self) -> str:
        """What was found, and what was expected."""
        return self.args[0]

    @property
    def where(self) -> str | None:
        """The file, and the place in it, printable; None where `what` says it."""
        return self.args[1] if len(self.args) > 1 else None

    @property
    def subject(self) -> object:
        """What this error is told once for, however many images meet it: `about`, or else its very message."""
        return str(self) if self.about is None else self.about

    @property
    def finding(self) -> str:
        """Where it is and what is wrong, without what to do."""
        return message_of(self.what, self.where)

    def __str__(self) -> str:
        return message_of(self.what, self.where, self.remedy)

    def at(self, *places: str | bytes) -> Self:
        """Return the same error, in `places`, the outermost first, around where it was said to be so far."""
        placed = copy(self)
        placed.args = self.what, ": ".join([*map(printable, places), *self.args[1:]])
        return placed

    def told_as(self, kind: type[_Error], *, errno: int | None = None) -> _Error:
        """Return an error of `kind` that says the same."""
        return kind(self.what, where=self.where, remedy=self.remedy, errno=errno)

    def bare(self) -> Self:
        """Return the same error without the frames it came through, to be kept, or to be raised once more.

        An error that is raised again and again would else remember each time, with all that those frames hold. What is
        wrong with many images alike is kept once.
        """
        self.args = intern(self.what), *self.args[1:]
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class Interrupted(BaseException):
    """A signal asks to stop: Ctrl-C, or another that ends a process. Raised where something is to be cleared away.

    number: of the signal. A command that it ends has the exit status 128 + number, as shells say it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class FormatError(VdifsError):
    """The bytes of an image break a rule of the qcow2 specification."""

    remedy = "restore it from a copy, or see what 'qemu-img check' says"


CUT_SHORT = "the file was cut short; restore it from a copy"
"""The remedy where an image has something beyond the end of a file."""


class UnsupportedError(FormatError):
    """A valid image uses a feature that vdifs does not read."""

    errno = _errno.EOPNOTSUPP
    remedy = "convert it with 'qemu-img convert'"


class ChainError(VdifsError):
    """The files of a chain do not fit together: one is missing, twice in it, or no ancestor of the other."""


class PolicyError(VdifsError):
    """A name inside an image points where the policy does not allow vdifs to look."""

    errno = _errno.EACCES


class _More(TypedDict, total=False):
    """What an error takes besides what and where."""

    remedy: str | None
    errno: int | None
    about: object


_OF_THE_FILE = frozenset({
    _errno.ENOENT, _errno.ENOTDIR, _errno.ELOOP, _errno.EACCES, _errno.EPERM, _errno.EINVAL, _errno.ENXIO, _errno.EXDEV,
    _errno.EISDIR, _errno.ENAMETOOLONG,
})  # fmt: skip
"""What the operating system says of a file that is not there, is something else, or is not ours to read."""


class StorageError(VdifsError):
    """The operating system could not open or read a source file."""

    unreachable = True

    def __init__(self, what: str, where: str | bytes | None = None, **more: Unpack[_More]) -> None:
        super().__init__(what, where, **more)
        self.passing = self.errno not in _OF_THE_FILE

    @classmethod
    def from_os(cls, where: str | bytes, error: OSError, remedy: str) -> "StorageError":
        """Return the error for `error`, which happened on the file called `where`."""
        return cls(error.strerror or str(error), where=where, remedy=remedy, errno=error.errno or _errno.EIO)


class SourceChangedError(VdifsError):
    """A source file changed after its image was opened."""

    errno = _errno.ESTALE


class InUseError(VdifsError):
    """A source file is being written, or keeps changing."""

    errno = _errno.EBUSY


class UsageError(VdifsError):
    """The caller asked for something that cannot be: a wrong option, value or combination."""

    errno = _errno.EINVAL
    exit_code = 2


class WouldBlock(Exception):  # noqa: N818 - not a failure: the answer is there, but only a waiting read can give it
    """A read with `wait=False` needs bytes that are not in the page cache. Ask again with `wait=True` in a thread."""
