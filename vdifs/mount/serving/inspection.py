"""Opening every image once behind the scenes, so that damage which only opening shows is told before a reader meets it.

    wake -> for each image whose files are others than when it was opened last: opened, closed at once, a pause

One image at a time; each pause is longer than the work before it, and while requests come there is one step in a while.
A round ends when all are known, or when it has taken long enough: then an idle mount sleeps.
"""

import errno
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from vdifs.catalog.entry import Entry
from vdifs.chain.policy import MAX_DEPTH
from vdifs.errors import ChainError, FormatError, InUseError, PolicyError, SourceChangedError, VdifsError, printable
from vdifs.mount.serving.images.open_images import Opener
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import DeadlineError, Threads
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source

__all__ = ["Inspectable", "Inspection"]

_ROUND_S = 300.0
"""So long a round may work, pauses apart."""
_FILE_S = 10.0
"""So long it may work on one file under all of its names and in all of its states."""
_STEP_S = 0.005
_REST = 4
"""How many times as long as the work is the pause after it."""
_LONGEST_REST_S = 10.0
_QUIET_S = 0.1
_PATIENCE_S = 1.0
_RETRY_S = 10.0
_LOOK_UP = 256
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_MOVED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EACCES, errno.EPERM})

log = logging.getLogger("vdifs.mount")


class Inspectable(Protocol):
    """The images of a mount, as far as an inspection has to do with them."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Those that there are now, by PATH."""

    @property
    def requests(self) -> int:
        """How many requests there were, which an inspection gives way to."""

    def source(self, path: str, /) -> Source | None:
        """Return what is known of the chain of an image, None if it is not there."""

    def failed(self) -> Iterable[tuple[str, VdifsError]]:
        """Return the images of which a file could not be opened, and why."""

    def note_failure(self, path: str, error: VdifsError, /) -> bool:
        """Take note that an image cannot be opened. Return whether it is still there."""

    def note_well(self, path: str, /) -> None:
        """Take note that an image can be opened."""

    def note_change(self) -> None:
        """Take note that an image is another than the last search of the source has found."""

    def warn(self, error: VdifsError, /) -> None:
        """Tell the log, once in a while."""


class Inspection:
    """The inspection of the images of one mount, which is told of those that cannot be opened.

    threads: those that open them, by themselves, so that a disk that hangs keeps no thread from a reader.
    """

    def __init__(self, images: Inspectable, opener: Opener, tasks: Tasks, threads: Threads) -> None:
        self._images = images
        self._opener = opener
        self._tasks = tasks
        self._threads = threads
        self._pace = _Pace(lambda: images.requests)
        self._known: set[int] = set()
        self._again: set[int] = set()
        self._wanted = False
        self._running = False
        self._first = True
        self._settled = trio.Event()
        self._retried = -math.inf

    def wake(self) -> None:
        """Look for images that are not known yet, now or soon."""
        self._wanted = True
        if not self._running:
            self._settled = trio.Event()
            self._tasks.spawn(self._run)

    def retry(self) -> None:
        """Open again, if that was not done just now, what could not be opened for a reason that may have passed.

        A round that a bug has ended is begun again too.
        """
        entries = self._images.entries
        paths = {path for path, error in self._images.failed() if not isinstance(error, FormatError)}
        ended = self._wanted and not self._running
        if (paths or ended) and time.monotonic() - self._retried > _RETRY_S:
            self._retried = time.monotonic()
            self._again = {_state_of(entries, entries[path]) for path in paths if path in entries}
            self._known -= self._again
            self.wake()

    async def settled(self) -> None:
        """Return once nothing is left to do."""
        await self._settled.wait()

    def mind_requests(self) -> None:
        """Give way to requests from now on: before the mount is ready there are none."""
        self._pace.patience = _PATIENCE_S

    def unknown(self) -> int:
        """Return how many images have not been opened in their present state. May be called in any thread."""
        entries = self._images.entries
        return sum(_state_of(entries, entry) not in self._known for entry in entries.values())

    async def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._wanted:
                self._wanted = False
                try:
                    await self._round()
                except BaseException:
                    self._wanted = True  # the next who wakes it, or looks at the status, has it begun again
                    raise
        finally:
            self._running = False
            self._settled.set()

    async def _round(self) -> None:
        """Look at each image once, active states first: snapshots may be very many."""
        entries, states, this = self._images.entries, set[int](), _Round()
        self._pace.start()
        for number, entry in enumerate(_in_order(entries)):
            if number % _LOOK_UP == 0:
                await self._pace.step()
            state = _state_of(entries, entry)
            states.add(state)
            if state not in self._known:
                await self._look_at(entry, state, this)
            if state in this.failed:
                self._tell(entry.path, this.failed[state])
            elif state in self._again and state in self._known:
                self._images.note_well(entry.path)
        self._known &= states
        self._again.clear()
        self._first = False

    async def _look_at(self, entry: Entry, state: int, this: "_Round") -> None:
        """Open an image that is not known in this state, unless that costs too much, or its disk hangs."""
        file, source = ImageFile(entry.path), self._images.source(entry.path)
        if source is None or not this.may_open(entry, source):
            return
        if source.problem is not None:
            self._known.add(state)
            if self._first:  # later it may be so for a moment only, while a file is replaced
                self._say(source.problem)
            return
        await self._pace.step()
        begun = time.monotonic()
        try:
            work = self._threads.work(source.devices, source.owner)
            await self._threads.answer_work(work, source.devices, self._open_and_close, file, source)
        except SourceChangedError:
            self._images.note_change()
            return
        except DeadlineError:
            this.hung |= source.devices
            return
        except VdifsError as error:
            if _says_nothing(error):
                return
            this.failed[state] = error.bare()
        except Exception:  # a bug that one image brings out keeps no other from being looked at
            log.exception("%s: could not be looked at", printable(entry.path))
        finally:
            this.took(entry, time.monotonic() - begun)
        self._known.add(state)

    def _open_and_close(self, file: ImageFile, source: Source) -> None:
        try:
            self._opener(file, source).close()
        except FormatError:
            self._opener(file, source).close()  # unless it was written meanwhile, this fails again

    def _tell(self, path: str, error: VdifsError) -> None:
        if self._images.note_failure(path, error):
            self._say(error)

    def _say(self, error: VdifsError) -> None:
        """Tell the log. That a machine is writing an image is no complaint."""
        if isinstance(error, InUseError):
            log.info("%s", error)
        else:
            self._images.warn(error)


@dataclass(slots=True)
class _Round:
    """What came out in one round. hung: file systems that did not answer. failed: by state."""

    hung: frozenset[int] = frozenset()
    failed: dict[int, VdifsError] = field(default_factory=dict)
    _worked: float = 0.0
    _of_file: dict[tuple[int, ...], float] = field(default_factory=dict)

    def may_open(self, entry: Entry, source: Source) -> bool:
        """Tell whether there is time for one more image."""
        spent = self._of_file.get(entry.fingerprint[:2], 0.0)
        return not source.devices & self.hung and spent < _FILE_S and self._worked < _ROUND_S

    def took(self, entry: Entry, seconds: float) -> None:
        """Take note of how long an image took."""
        file = entry.fingerprint[:2]
        self._worked += seconds
        self._of_file[file] = self._of_file.get(file, 0.0) + seconds


class _Pace:
    """Rests after each bit of work, and gives way to requests. counted: how many there were. patience: for how long."""

    def __init__(self, counted: Callable[[], int]) -> None:
        self.patience = 0.0
        self._counted = counted
        self._requests = 0
        self._busy_at = -math.inf
        self._begun = 0.0

    def start(self) -> None:
        """Begin to work."""
        self._begun = time.monotonic()

    async def step(self) -> None:
        """Return at once after little work; else after a rest, and while requests come only after a while."""
        worked = time.monotonic() - self._begun
        if worked >= _STEP_S:
            await trio.sleep(min(_REST * worked, _LONGEST_REST_S))
        elif not self._is_busy():
            return
        until = time.monotonic() + self.patience
        while self._is_busy() and time.monotonic() < until:
            await trio.sleep(_QUIET_S)
        self._begun = time.monotonic()

    def _is_busy(self) -> bool:
        now, requests = time.monotonic(), self._counted()
        if requests != self._requests:
            self._requests, self._busy_at = requests, now
        return now - self._busy_at < _QUIET_S


def _in_order(entries: Mapping[str, Entry]) -> Iterator[Entry]:
    yield from (entry for entry in entries.values() if entry.snapshot is None)
    yield from (entry for entry in entries.values() if entry.snapshot is not None)


def _says_nothing(error: VdifsError) -> bool:
    """Tell whether an error is no news of an image: ours, or of a chain that is another since it was searched.

    The next search tells of such a chain. It is not made now: no reader waits, and files may be about to be replaced.
    """
    return error.errno in _OURS | _MOVED or isinstance(error, ChainError | PolicyError)


def _state_of(entries: Mapping[str, Entry], entry: Entry) -> int:
    """Return what tells an image in this state of its files from all others: the same for two names of one file."""
    members: list[object] = [entry.snapshot, entry.format]
    below: Entry | None = entry
    while below is not None and len(members) <= MAX_DEPTH:
        members.append((below.fingerprints, below.problem is None))
        below = None if below.backing_path is None else entries.get(below.backing_path)
    return hash(tuple(members))
