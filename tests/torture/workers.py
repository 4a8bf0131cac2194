"""Processes that try one seed after the other. One that hangs, crashes or is killed costs its seed, not the run."""

import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.torture.memory_guard import die_with_parent
from tests.torture.tally import Kind, Tally

__all__ = ["Result", "try_seeds"]

_PATIENCE_S = 600.0
"""No trial takes so long unless code hangs where no signal interrupts it. It asks QEMU often, which may be slow."""
_END_S = 5.0
_context = multiprocessing.get_context("fork")
Try = Callable[[int, Path], Tally]
Connection = multiprocessing.connection.Connection


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a seed."""

    seed: int
    tally: Tally


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    seed: int | None = None
    since: float = 0.0

    def give(self, seed: int | None) -> None:
        self.seed, self.since = seed, time.monotonic()
        self.connection.send(seed)

    def end(self) -> int:
        """Kill it if it has not ended, and return its exit code: negative for the signal it died from."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode or 0


def try_seeds(prepare: Callable[[Path], Try], folder: Path, jobs: int, seeds: Iterator[int]) -> Iterator[Result]:
    """Yield the results of all seeds, as they come. prepare: called in each process with a folder of its own."""
    workers: dict[int, _Worker] = {}
    try:
        for number in range(jobs):
            _fill(workers, number, prepare, folder, next(seeds, None))
        while workers:
            for number, worker in list(workers.items()):
                if (tally := _answer(worker)) is None:
                    continue
                assert worker.seed is not None, "it has answered"
                yield Result(worker.seed, tally)
                seed = next(seeds, None)
                if worker.process.is_alive() and seed is not None:
                    worker.give(seed)
                else:
                    workers.pop(number).end()
                    _fill(workers, number, prepare, folder, seed)
            multiprocessing.connection.wait([worker.connection for worker in workers.values()], 1.0)
    finally:
        for worker in workers.values():
            worker.process.kill()
        for worker in workers.values():
            worker.end()


def _fill(
    workers: dict[int, _Worker], number: int, prepare: Callable[[Path], Try], folder: Path, seed: int | None
) -> None:
    if seed is None:
        return
    ours, theirs = _context.Pipe()
    own = folder / f"worker{number}"
    own.mkdir(exist_ok=True)
    process = _context.Process(target=_work, args=(theirs, prepare, own), daemon=True)
    process.start()
    theirs.close()
    workers[number] = _Worker(process, ours)
    workers[number].give(seed)


def _answer(worker: _Worker) -> Tally | None:
    """Return the result of the worker's seed, None if it is still at work."""
    try:
        if worker.connection.poll():
            tally: Tally = worker.connection.recv()
            return tally
    except (EOFError, OSError):
        worker.process.join(_END_S)
        lost = Tally()
        lost.found(Kind.CRASH, f"the process ended with {worker.end()}")
        return lost
    if time.monotonic() - worker.since > _PATIENCE_S:
        lost = Tally()
        lost.found(Kind.HANG, f"no answer for {_PATIENCE_S:.0f} s")
        worker.process.kill()
        worker.process.join()
        return lost
    return None


def _work(connection: Connection, prepare: Callable[[Path], Try], folder: Path) -> None:
    die_with_parent()
    attempt = prepare(folder)
    while (seed := connection.recv()) is not None:
        connection.send(attempt(seed, folder))
