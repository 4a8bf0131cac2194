"""One row: what it compares, the runs it takes, and what came out.

A row's runs alternate, vdifs first in one round and the peer first in the next. Before each of them what the one
before it wrote is deleted, the file system is synced and the sources are read: no run pays for another one's dirty
pages.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.chains import Chains, warm
from benchmarks.processes import FailedError, run
from benchmarks.sizes import Sizes

__all__ = [
    "Bench",
    "Contest",
    "Outcome",
    "Row",
    "Run",
    "Sample",
    "SkippedError",
    "Target",
    "Unit",
    "alternate",
    "measured",
    "median",
]

Unit = Literal["s", "s/GiB", "B/s", "reads/s"]


class SkippedError(Exception):
    """A row cannot be measured on this machine; the message says what it would need."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run gave. value: in the row's unit. cpu: seconds, a daemon's included. growth: of a daemon, in bytes."""

    value: float
    cpu: float
    growth: int | None = None


Run = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Contest:
    """The two sides of a row.

    prove: raises FailedError if what vdifs gives is not what QEMU gives; it runs before anything is measured
    sources: files to have in the page cache
    outputs: the folder that is emptied before each run
    """

    ours: Run
    peer: Run | None
    prove: Callable[[], None]
    sources: Sequence[Path]
    outputs: Path

    def settle(self) -> None:
        """Make every run start alike."""
        for file in self.outputs.iterdir():
            file.unlink()
        run("sync", "-f", self.outputs)
        for file in self.sources:
            warm(file)


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the ratio of vdifs to its peer; for a row without a peer, on the value itself."""

    sign: Literal["<=", ">="]
    bound: float

    def met_by(self, value: float) -> bool:
        """Whether the bound holds."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Bench:
    """What the rows share. folder: theirs to fill, on the file system that is measured."""

    folder: Path
    chains: Chains
    sizes: Sizes

    @property
    def outputs(self) -> Path:
        """Where runs write."""
        made = self.folder / "outputs"
        made.mkdir(exist_ok=True)
        return made


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    chains: those it needs
    room: bytes of disk it takes beside them
    prepare: makes the contest; what must be cleared away afterwards goes onto the stack
    target: None for what is reported without being judged
    """

    key: str
    what: str
    against: str
    unit: Unit
    target: Target | None
    chains: Sequence[str]
    prepare: Callable[[Bench, ExitStack], Contest]
    room: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row with its samples; without any if it failed or was skipped, and `problem` says why."""

    row: Row
    ours: Sequence[Sample] = ()
    peer: Sequence[Sample] = ()
    problem: str | None = None
    failed: bool = field(default=False)

    @property
    def ratio(self) -> float | None:
        """The median of vdifs over the median of its peer."""
        return median(self.ours) / median(self.peer) if self.ours and self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where nothing was measured or nothing is asked."""
        if self.row.target is None or not self.ours:
            return None
        return self.row.target.met_by(median(self.ours) if self.ratio is None else self.ratio)


def median(samples: Sequence[Sample]) -> float:
    """Return the median of the samples' values."""
    return statistics.median(sample.value for sample in samples)


def measured(row: Row, bench: Bench, rounds: int) -> Outcome:
    """Run a row. A failure is an outcome too."""
    try:
        with ExitStack() as stack:
            contest = row.prepare(bench, stack)
            contest.settle()
            contest.prove()
            return Outcome(row, *alternate(contest, rounds))
    except SkippedError as reason:
        return Outcome(row, problem=str(reason))
    except (FailedError, OSError) as error:
        return Outcome(row, problem=str(error), failed=True)


def alternate(contest: Contest, rounds: int) -> tuple[list[Sample], list[Sample]]:
    """Return the samples of both sides, taken in turn."""
    ours: list[Sample] = []
    peer: list[Sample] = []
    sides = [(contest.ours, ours)] if contest.peer is None else [(contest.ours, ours), (contest.peer, peer)]
    for _ in range(rounds):
        for side, samples in sides:
            contest.settle()
            samples.append(side())
        sides.reverse()
    return ours, peer
