"""What is told of an image that is not as it should be: a value, with a severity, and what finds more of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from vdifs.errors import (
    ChainError,
    FormatError,
    InUseError,
    PolicyError,
    StorageError,
    UnsupportedError,
    VdifsError,
    message_of,
)

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer, State  # and with it numpy, which `vdifs info` does without

__all__ = ["FileAudit", "Problem", "Severity", "SnapshotStates", "Tell", "failed", "of_file"]


class Severity(StrEnum):
    """How bad it is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. path: PATH of the image that has it. kind: one of a few words, for programs.

    what, where, remedy: as of an error; a remedy is there if anything is to be done.
    about: what it is told once for, however many images it keeps from being served; None: it keeps none. keeps: those.
    """

    path: str
    severity: Severity
    kind: str
    what: str
    where: str | None = None
    remedy: str | None = None
    about: object = None
    keeps: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: str, severity: Severity, kind: str, error: VdifsError, about: object = None) -> Self:
        """Return the problem that an error tells of."""
        return cls(path, severity, kind, error.what, error.where, error.remedy, about)

    @property
    def message(self) -> str:
        """The line that tells of it."""
        return message_of(self.what, self.where, self.remedy)


class Tell(Protocol):
    """Makes a Problem of one image from its severity, its kind, what is wrong, and what to do."""

    def __call__(self, severity: Severity, kind: str, what: str, remedy: str | None = None, /) -> Problem:
        """Return it."""


def of_file(file_name: str, path: str) -> Tell:
    """Return what makes a Problem of PATH, which lies in a file of that name."""

    def tell(severity: Severity, kind: str, what: str, remedy: str | None = None, /) -> Problem:
        return Problem(path, severity, kind, what, file_name, remedy)

    return tell


def failed(path: str, error: VdifsError) -> Problem:
    """Return the ERROR of an image that cannot be opened, or not be looked at to the end.

    That a machine is writing it is a NOTE: nothing is wrong with it.
    """
    severity = Severity.NOTE if isinstance(error, InUseError) else Severity.ERROR
    return Problem.of(path, severity, _kind_of(error), error, error.subject)


def _kind_of(error: VdifsError) -> str:
    """Return the word for what an error is about."""
    kinds: list[tuple[type[VdifsError], str]] = [
        (UnsupportedError, "unsupported"),
        (FormatError, "damaged"),
        (PolicyError, "not-trusted"),
        (ChainError, "broken-chain"),
        (StorageError, "unreadable"),
        (InUseError, "in-use"),
    ]
    return next((kind for class_, kind in kinds if isinstance(error, class_)), "changing")


class FileAudit:
    """What is wrong with a file in all of its states: of a format in which nothing can be, without guest data.

    problems: of what the states share.
    """

    problems: tuple[Problem, ...] = ()

    def of_state(self, _layer: "Layer", _path: str) -> list[Problem]:
        """Return what is wrong with the state PATH alone, whose layer this is. No guest data are read."""
        return []


class SnapshotStates(Protocol):
    """The states of a file that its internal snapshots are, by label."""

    def find(self, label: str, /) -> "State | None":
        """Return the state of the snapshot with that label."""

    def __len__(self) -> int:
        """Return how many there are."""
