"""Many processes that do the same until they are told to stop. A context manager: none of them outlives it."""

import math
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Generic, Self, TypeVar

from tests.torture.memory_guard import die_with_parent

__all__ = ["Crowd", "Going", "Latencies"]

_context = multiprocessing.get_context("fork")
Going = Callable[[], bool]
R = TypeVar("R")


class Crowd(Generic[R]):
    """`count` processes that each run `work(number, going)` and give back what it returns."""

    def __init__(self, count: int, work: Callable[[int, Going], R]) -> None:
        self._count = count
        self._work = work
        self._stop = _context.Event()
        self._members: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        for number in range(self._count):
            ours, theirs = _context.Pipe()
            process = _context.Process(target=self._run, args=(number, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))
        return self

    def _run(self, number: int, connection: Connection) -> None:
        die_with_parent()
        for each in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(each, signal.SIG_DFL)
        connection.send(self._work(number, lambda: not self._stop.is_set()))

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid or 0 for process, _ in self._members]

    def stop(self) -> None:
        """Tell them to stop; does not wait."""
        self._stop.set()

    def results(self, within: float) -> tuple[list[R], int]:
        """Tell them to stop; return what they gave back, and how many have not within that many seconds."""
        self.stop()
        return self.answers(within)

    def answers(self, within: float) -> tuple[list[R], int]:
        """Return what they give back, and how many do not within that many seconds, without telling them to stop."""
        ends = time.monotonic() + within
        found: list[R] = []
        for _, connection in self._members:
            try:
                if connection.poll(max(0.0, ends - time.monotonic())):
                    found.append(connection.recv())
            except (EOFError, OSError):
                pass  # it died, and counts as one that did not answer
        return found, self._count - len(found)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for process, _ in self._members:
            process.kill()
        for process, connection in self._members:
            process.join(5)
            connection.close()


class Latencies:
    """How long things took, by the twentieth of a doubling; adds up over processes."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Note that something took so long."""
        bucket = _bucket(seconds)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, other: "Latencies") -> None:
        """Add what another one noted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def percentile(self, part: float) -> float:
        """Return the seconds within which that part of all was done, at most a twentieth of a doubling too many."""
        wanted = part * sum(self.counts.values())
        seen = 0
        for bucket, count in sorted(self.counts.items()):
            seen += count
            if seen >= wanted:
                return float(2 ** ((bucket + 1) / 20) * 1e-6)
        return 0.0


def _bucket(seconds: float) -> int:
    return int(20 * math.log2(max(seconds, 1e-6) * 1e6))
