"""Threads that compute side by side, for all images of a process: begun when they are needed first."""

import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from threading import Lock
from typing import TypeVar

from vdifs.output.forks import start_anew_when_forked

__all__ = ["Workers"]

T = TypeVar("T")
_LOCKS = 64


class Workers:
    """The threads, no more than `count`, and locks that keep two from the same work. Any thread may use it."""

    def __init__(self, count: int = min(8, os.cpu_count() or 1)) -> None:
        self.count = count
        self.start_anew()
        start_anew_when_forked(self)

    def start_anew(self) -> None:
        """Have no threads, and no lock that is held."""
        self._pool: ThreadPoolExecutor | None = None
        self._beginning = Lock()
        self._locks = [Lock() for _ in range(_LOCKS)]

    def side_by_side(self, work: Callable[[Sequence[T]], None], jobs: Sequence[T]) -> None:
        """Have `work` done on parts of `jobs`, one in this thread; return, or raise the first error, when all are done.

        So it may write into what the caller holds.
        """
        shares = [jobs[index :: self.count] for index in range(min(self.count, len(jobs)))]
        others = [self.submit(work, share) for share in shares[1:]]
        try:
            if shares:
                work(shares[0])
        finally:
            wait_for(others)
        while others:
            others.pop(0).result()  # not kept here: its error would hold this frame, and the frame its error

    def submit(self, function: Callable[..., T], *args: object) -> Future[T]:
        """Have a thread call function(*args)."""
        with self._beginning:
            pool = self._pool = self._pool or ThreadPoolExecutor(self.count, "unpack")
        return pool.submit(function, *args)

    def lock_of(self, key: Hashable) -> Lock:
        """Return the lock of the work called `key`; others may have the same."""
        return self._locks[hash(key) % _LOCKS]
