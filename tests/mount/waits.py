"""How long reads take, and how much of that is the daemon's fault: on a busy machine its threads wait for a processor.

read       |=====|..........|==|......|=====|     whole: all of it
threads           ready, no processor             waited: the dots, of all threads added up
                                                  worked: what they did meanwhile, which the reader had to wait for
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import get_native_id
from typing import NamedTuple

__all__ = ["Took", "time_reads"]

PAGE = 4096
_PAUSE_S = 0.002


class Took(NamedTuple):
    """Seconds of one read. blamed: those at least for which no thread waited for a processor, or the daemon had one.

    Of a daemon that stands still on a machine with nothing else to do that is all of the read, however it came.
    """

    whole: float
    blamed: float


class _Times(NamedTuple):
    """Nanoseconds of a thread: with a processor, and ready for one that it did not get."""

    worked: int
    waited: int


def time_reads(path: Path, pid: int, going: Callable[[], bool], seed: int = 1) -> Iterator[Took]:
    """Read pages at random, past the page cache, while `going`; yield how long each took. pid: who answers."""
    rng, page = Random(seed), mmap.mmap(-1, PAGE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    own = Path(f"/proc/self/task/{get_native_id()}/schedstat")
    try:
        last = os.fstat(descriptor).st_size // PAGE - 1
        while going():
            before = _times(pid, own)
            began = time.monotonic()
            count = os.preadv(descriptor, [page], rng.randrange(last) * PAGE)
            whole = time.monotonic() - began
            assert count == PAGE, "a read was short"
            yield Took(whole, _blamed(whole, before, _times(pid, own)))
            time.sleep(_PAUSE_S)
    finally:
        os.close(descriptor)


def _blamed(whole: float, before: dict[Path, _Times], after: dict[Path, _Times]) -> float:
    passed = [(times, before.get(thread, _Times(0, 0))) for thread, times in after.items()]
    waited = sum(now.waited - then.waited for now, then in passed) / 1e9
    worked = sum(now.worked - then.worked for now, then in passed) / 1e9
    return max(whole - waited, min(whole, worked))


def _times(pid: int, *others: Path) -> dict[Path, _Times]:
    """Return those of each thread of a process, and of the `others`."""
    found = {}
    for each in (*Path(f"/proc/{pid}/task").glob("*/schedstat"), *others):
        try:
            worked, waited, _ = each.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended
        found[each] = _Times(int(worked), int(waited))
    return found
