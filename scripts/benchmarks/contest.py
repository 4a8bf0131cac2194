"""One row: what it compares, the runs it takes, and what came out.

A row's runs alternate: vdifs and then its peers in one round, the other way round in the next. Before each of them what
the one before it wrote is deleted, the file system is synced and the sources are read: no run pays for another one's
dirty pages.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import load
from benchmarks.chains import Chains, warm
from benchmarks.processes import FailedError, run
from benchmarks.sizes import Sizes

__all__ = [
    "Bench",
    "Compared",
    "Contest",
    "Outcome",
    "Peer",
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

Unit = Literal["s", "s/GiB", "B", "B/s", "reads/s", "%"]


class SkippedError(Exception):
    """A row, or one side of it, cannot be measured on this machine; the message says what it would need."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run gave.

    value: in the row's unit
    cpu: seconds of processor time, a daemon's included
    growth: of a daemon's memory, in bytes
    daemon: seconds of processor time of the daemon alone
    """

    value: float
    cpu: float
    growth: int | None = None
    daemon: float = 0.0


Run = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Contest:
    """The sides of a row.

    peers: in the order of the row's; the reason where one cannot run here
    prove: raises FailedError if what any side gives is not what QEMU gives; it runs before anything is measured
    sources: files to have in the page cache
    outputs: the folder that is emptied before each run
    """

    ours: Run
    peers: Sequence[Run | SkippedError]
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
    """A bound on the ratio of vdifs to a peer; for a row without peers, on the value itself.

    time: the ratio is that of the times, although the row's unit is a rate
    """

    sign: Literal["<=", ">="]
    bound: float
    time: bool = False

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
class Peer:
    """What vdifs is compared with. target: None for what is reported without being judged."""

    name: str
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured; a line of the table for each of its peers.

    chains: those it needs
    prepare: makes the contest; what must be cleared away afterwards goes onto the stack
    target: of a row without peers
    room: bytes of disk it takes beside its chains
    """

    key: str
    what: str
    unit: Unit
    chains: Sequence[str]
    prepare: Callable[[Bench, ExitStack], Contest]
    peers: Sequence[Peer] = ()
    target: Target | None = None
    room: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """A peer of a row with its samples; without any if it cannot run here, and `problem` says why."""

    peer: Peer
    ours: Sequence[Sample]
    samples: Sequence[Sample]
    problem: str | None = None

    @property
    def ratio(self) -> float | None:
        """The median of vdifs over the median of the peer, or of their times if the target is about these."""
        if not self.ours or not self.samples:
            return None
        above, below = median(self.ours), median(self.samples)
        if self.peer.target is not None and self.peer.target.time:
            above, below = below, above
        return above / below if below else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where nothing was measured or nothing is asked."""
        if self.peer.target is None or self.ratio is None:
            return None
        return self.peer.target.met_by(self.ratio)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row with its samples; without any if it failed or was skipped, and `problem` says why.

    peers: the samples of each, or why there are none
    others: how many processors other work kept busy meanwhile
    """

    row: Row
    ours: Sequence[Sample] = ()
    peers: Sequence[Sequence[Sample] | SkippedError] = ()
    problem: str | None = None
    failed: bool = False
    others: float = 0.0

    @property
    def compared(self) -> list[Compared]:
        """The peers of a row that was measured."""
        return [
            Compared(peer, self.ours, (), str(side))
            if isinstance(side, SkippedError)
            else Compared(peer, self.ours, side)
            for peer, side in zip(self.row.peers, self.peers, strict=False)
        ]

    @property
    def met(self) -> bool | None:
        """Whether all targets are met that could be judged; None if there was none."""
        if not self.ours:
            return None
        judged = [each.met for each in self.compared if each.met is not None]
        if self.row.target is not None:
            judged.append(self.row.target.met_by(median(self.ours)))
        return all(judged) if judged else None


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
            began = load.now()
            ours, *peers = alternate(contest, rounds)
            sides = [
                side if isinstance(side, SkippedError) else samples
                for side, samples in zip(contest.peers, peers, strict=True)
            ]
        return Outcome(row, ours, sides, others=load.others_since(began))
    except SkippedError as reason:
        return Outcome(row, problem=str(reason))
    except (FailedError, OSError) as error:
        return Outcome(row, problem=str(error), failed=True)


def alternate(contest: Contest, rounds: int) -> list[list[Sample]]:
    """Return the samples of vdifs and of each peer, taken in turn; none of one that cannot run here."""
    sides: list[tuple[Run | SkippedError, list[Sample]]] = [(side, []) for side in (contest.ours, *contest.peers)]
    turns = list(sides)
    for _ in range(rounds):
        for side, samples in turns:
            if not isinstance(side, SkippedError):
                contest.settle()
                samples.append(side())
        turns.reverse()
    return [samples for _, samples in sides]
