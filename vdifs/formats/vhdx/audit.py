"""What may be wrong with a VHDX that is read all the same: each finding a Problem. What is worse keeps it from that."""

from collections.abc import Iterator
from dataclasses import dataclass

from vdifs.formats.problems import FileAudit, Problem, Severity, Tell, of_file
from vdifs.formats.vhdx.structures import Structures
from vdifs.wording import counted

__all__ = ["VhdxAudit", "warnings_of"]

_RENEW = "have Hyper-V open it once, which writes both copies"
_CLOSE = "have Hyper-V open it once, which writes them"


@dataclass(frozen=True, slots=True)
class VhdxAudit(FileAudit):
    """What was found of a file. That its blocks lie in order is looked at whenever it is opened."""

    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, file_name: str, structures: Structures, path: str) -> "VhdxAudit":
        """Return what is wrong with the file PATH."""
        return cls(tuple(_found(structures, of_file(file_name, path))))


def warnings_of(structures: Structures) -> list[str]:
    """Return the same for who asks for a description."""
    return [problem.what for problem in _found(structures, of_file("", ""))]


def _found(structures: Structures, tell: Tell) -> Iterator[Problem]:
    if (what := structures.headers.other_problem) is not None:
        yield tell(Severity.WARNING, "header", what, _RENEW)
    if (what := structures.regions.problem) is not None:
        yield tell(Severity.WARNING, "region-table", what, _RENEW)
    if structures.applied:
        entries = counted(structures.applied, "entry", "entries")
        verb = "is" if structures.applied == 1 else "are"
        what = f"it was not closed cleanly: {entries} of its log {verb} replayed in memory"
        yield tell(Severity.WARNING, "unclean-log", what, _CLOSE)
