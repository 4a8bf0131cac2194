"""Keeping the tree of names fresh: the source is scanned again when a request looks and the last scan is too old.

Added to the time for which the kernel itself remembers names (`attributes.TIMEOUT_S`) it stays below a second, and an
idle mount costs nothing. A request waits for the scan, but not for a source that hangs.
"""

import errno
import logging
import time
from collections.abc import Callable
from typing import Protocol

import trio

from vdifs.errors import StorageError, VdifsError
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads

__all__ = ["MAX_AGE_S", "Scannable", "Scanner"]

MAX_AGE_S = 0.3
_LONGEST_AGE_S = 1.0
_PATIENCE_S = 1.0
_HANGS_S = 4.0
_SCANS = frozenset[int]()

log = logging.getLogger(__name__)


class Scannable(Protocol):
    """What a scanner asks of the catalog."""

    def scan(self) -> bool:
        """Look at the source again; True if anything changed."""


class Scanner:
    """Scans on demand, one scan at a time. on_change: called in the event loop after a scan that found a change."""

    def __init__(self, catalog: Scannable, tasks: Tasks, threads: Threads, on_change: Callable[[], None]) -> None:
        self._catalog = catalog
        self._threads = threads
        self._on_change = on_change
        self._tasks = tasks
        self._done = trio.Event()
        self._running = False
        self._entered = False
        self._begun = 0.0
        self._seen = time.monotonic()
        self._outdated = False
        self._changed = False
        self._failure: Exception | None = None
        self.last_duration = 0.0
        self.scans = 0

    @property
    def trouble(self) -> VdifsError | None:
        """Why it is not known what the source holds now: its search failed, or hangs. None if it is known."""
        if self._running and (lasts := trio.current_time() - self._begun) > _HANGS_S + 2 * self.last_duration:
            what = f"the search of the source has not ended for {lasts:.0f} s"
            return StorageError(what, remedy="check the disk or server below it", errno=errno.EIO)
        if self._failure is None or isinstance(self._failure, VdifsError):
            return self._failure
        return StorageError("the search of the source failed", remedy="see the log of the mount", errno=errno.EIO)

    def outdated(self) -> None:
        """Take note that a source is known to have changed, so that the next request waits for a scan."""
        self._outdated = True

    async def fresh(self) -> None:
        """Return once the tree is fresh enough: at once if it is, and if the scan under way has hung for too long."""
        while self._is_old():
            if not self._running:
                self._begin()
            with trio.move_on_at(self._begun + _PATIENCE_S) as patience:
                await self._done.wait()
            if patience.cancelled_caught and not self._done.is_set():  # it may end in this very moment
                if not self._entered:  # a task that never came to its first line will never come to its last
                    self._running = False
                return

    def _is_old(self) -> bool:
        # A scan that takes long, of very many images, must not keep a whole processor busy.
        allowed = min(max(MAX_AGE_S, 2 * self.last_duration), _LONGEST_AGE_S)
        return self._outdated or time.monotonic() - self._seen > allowed

    def _begin(self) -> None:
        self._begun = trio.current_time()
        self._done = trio.Event()
        self._entered = False
        self._tasks.spawn(self._scan)  # so that the scan outlives the request that wanted it
        self._running = True

    async def _scan(self) -> None:
        self._entered = True
        begun = self._seen
        try:
            begun = time.monotonic()
            self._outdated = False
            work = self._threads.work(_SCANS)
            self._changed = await self._threads.run_work(work, self._catalog.scan) or self._changed
            if self._changed:
                self._on_change()
                self._changed = False  # if that failed, the next scan, which may find nothing new, calls it again
            self._failure = None
        except Exception as error:  # noqa: BLE001 - whatever it is, the tree stays as it was and the mount goes on
            self._complain(error)
        finally:
            self._running = False
            self._done.set()
            # Counted from the end: a search longer than MAX_AGE_S would else be repeated without a pause.
            self._seen = time.monotonic()
            self.last_duration = self._seen - begun
            self.scans += 1

    def _complain(self, error: Exception) -> None:
        """Log a failure, unless it is the one that the last scan had."""
        before, self._failure = self._failure, error
        if repr(before) == repr(error):
            return
        if isinstance(error, (VdifsError, OSError)):
            log.warning("the source cannot be searched: %s", error)
        else:
            log.error("the search of the source failed", exc_info=error)
