"""What a section is, and what it is given to work with."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.tally import Kind, Tally

__all__ = ["Run", "Section", "Task", "run_section"]

_TOLD_EVERY_S = 20.0
_MOST_FINDINGS = 100


@dataclass(slots=True)
class Task:
    """One run of a section.

    folder: empty, the section's own; nothing of it is left afterwards
    seed: where its random choices start
    count: end after so many trials, None: when the time is over. seconds: end after so long, None: when all are tried
    jobs: processors to use
    keep: a folder for what leads to a finding again
    """

    folder: Path
    seed: int
    count: int | None
    seconds: float | None
    jobs: int
    say: Callable[[str], None]
    keep: Path | None = None
    tally: Tally = field(default_factory=Tally)
    started: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    @property
    def rng(self) -> random.Random:
        """A generator that starts at the seed."""
        return random.Random(self.seed)

    def begin(self) -> None:
        """Let the time that was asked for begin now: what has to be made is made."""
        self.started = time.monotonic()

    def left(self) -> float:
        """Return how many seconds are left; infinite where only the count decides."""
        return float("inf") if self.seconds is None else self.started + self.seconds - time.monotonic()

    def going(self) -> bool:
        """Tell whether there is more to try, and say at times how far it is."""
        now = time.monotonic()
        if now - self._told > _TOLD_EVERY_S:
            self._told = now
            self.say(f"{self.tally.tried:,} tried, {len(self.tally.findings)} went wrong, {now - self.started:.0f} s")
        if len(self.tally.findings) >= _MOST_FINDINGS:
            return False
        return self.left() > 0 and (self.count is None or self.tally.tried < self.count)

    def found(self, kind: Kind, what: str) -> None:
        """Note that something went wrong, and say it at once."""
        self.tally.found(kind, what)
        self.say(f"{kind}: {what}")


Run = Callable[[Task], None]


@dataclass(frozen=True, slots=True)
class Section:
    """A way to torture vdifs.

    unit: what is counted. long: how many the long form tries, None: it takes `long_seconds` instead
    share: of the minutes that all sections take together
    """

    key: str
    what: str
    unit: str
    run: Run
    share: float
    long: int | None = None
    long_seconds: float | None = None


def run_section(section: Section, task: Task) -> Tally:
    """Run a section. What it did not expect itself is a finding too: nothing that fails passes for a success."""
    try:
        section.run(task)
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        task.found(Kind.BROKEN, f"the section ended early: {type(error).__name__}: {error}")
        task.say(_trace(error))
    if not task.tally.tried and not task.tally.findings:
        task.found(Kind.BROKEN, "nothing was tried")
    task.tally.seconds = time.monotonic() - task.started
    return task.tally


def _trace(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()
