"""Reading past the page cache of the mount, so that every read reaches the daemon."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mount.mounting import eventually

PAGE = 4096


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Return a descriptor that is read past the page cache."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sleeps(pid: int) -> int:
    """Return how often the thread of a daemon that runs Python has gone to sleep: once for each read that it answers.

    One reader by itself asks only when it has its answer, so that the thread has nothing to do in between.
    """
    lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches"))
    return int(found)


def warmed(descriptor: int, pid: int, offset: int = 0, length: int = PAGE) -> None:
    """Read a range until the data plane answers: it was published, and the stamps of its sources are old enough."""

    def is_warm() -> bool:
        before = sleeps(pid)
        for _ in range(20):
            os.pread(descriptor, length, offset)
        return sleeps(pid) - before < 10

    eventually(is_warm)
