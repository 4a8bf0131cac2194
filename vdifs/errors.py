"""Every error that vdifs raises on purpose, with the errno a mount answers and the exit status a command ends with.

A message is one lower-case line: the file, where in it (hexadecimal), what was found, what was expected, what to do.
Two boundaries turn these into something else: the FUSE operations (errno) and the command line (one line, status).
"""

import errno as _errno
import os
import re
from typing import Self

__all__ = [
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


_VERBS = (
    "allow ask check choose close commit convert correct give have install leave load look make mend mount name open "
    "rebase rename repair restore run see start state take try unmount use wait write"
).split()
_TELLS_WHAT_TO_DO = re.compile(rf"[:;,] (or )?({'|'.join(_VERBS)})\b|'qemu-img ")


class VdifsError(Exception):
    """Any failure of vdifs. errno: what a system call on the mount gives. exit_code: what the command ends with.

    about: what a log need not be told twice in a short while, whatever else differs; None: this very message.
    remedy: what to do, for kinds of errors whose raisers cannot say; it is told unless the message has one.
    passing: a disk, a server or this machine failed, not an image, which may be well.
    unreachable: a file could not be opened or asked, whatever it holds: the next search of the source tells why.
    """

    errno: int = _errno.EIO
    exit_code: int = 1
    about: object = None
    remedy: str | None = None
    passing: bool = False
    unreachable: bool = False

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        if errno is not None:
            self.errno = errno

    @property
    def subject(self) -> object:
        """What this error is told once for, however many images meet it: `about`, or else its very message."""
        return str(self) if self.about is None else self.about

    @property
    def finding(self) -> str:
        """The message as it was given, to say more of it."""
        return super().__str__()

    def __str__(self) -> str:
        if self.remedy is None or _TELLS_WHAT_TO_DO.search(self.finding):
            return self.finding
        return f"{self.finding}: {self.remedy}"

    def bare(self) -> Self:
        """Return the same error without the frames it came through, to be kept, or to be raised once more.

        An error that is raised again and again would else remember each time, with all that those frames hold.
        """
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


class UnsupportedError(FormatError):
    """A valid image uses a feature that vdifs does not read."""

    errno = _errno.EOPNOTSUPP
    remedy = "convert it with 'qemu-img convert'"


class ChainError(VdifsError):
    """The files of a chain do not fit together: one is missing, twice in it, or no ancestor of the other."""


class PolicyError(VdifsError):
    """A name inside an image points where the policy does not allow vdifs to look."""

    errno = _errno.EACCES


_OF_THE_FILE = frozenset({
    _errno.ENOENT, _errno.ENOTDIR, _errno.ELOOP, _errno.EACCES, _errno.EPERM, _errno.EINVAL, _errno.ENXIO, _errno.EXDEV,
    _errno.EISDIR, _errno.ENAMETOOLONG,
})  # fmt: skip
"""What the operating system says of a file that is not there, is something else, or is not ours to read."""


class StorageError(VdifsError):
    """The operating system could not open or read a source file."""

    unreachable = True

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message, errno=errno)
        self.passing = self.errno not in _OF_THE_FILE

    @classmethod
    def from_os(cls, name: str, error: OSError, remedy: str) -> "StorageError":
        """Wrap `error`, which happened on the file called `name`."""
        return cls(f"{printable(name)}: {error.strerror or error}: {remedy}", errno=error.errno or _errno.EIO)


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
