"""What is told of an image that is not as it should be: a value, with a severity."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Problem", "Severity", "Teller"]


class Severity(StrEnum):
    """How bad it is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. path: PATH of the image that has it. kind: one of a few words, for programs.

    about: what it is told once for, however many images it keeps from being served; None: it keeps none. keeps: those.
    """

    path: str
    severity: Severity
    kind: str
    message: str
    about: object = None
    keeps: tuple[str, ...] = ()


Teller = Callable[[Severity, str, str], Problem]
