"""Whose turn it is to work hard: threads share one interpreter, which the readers of all images need too.

    lane A   [===work 1===][==work 2==]           works of one lane: one after the other
    lane B        [work 3][work 4]                lanes: in turns of TURN_S

A lane is what belongs to one owner on one set of file systems. A work that is done within LIGHT_S of processor time
waits for no turn. One that does not come back, as its disk hangs, loses its turn: it keeps no other work waiting.
"""

import time
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Condition

from vdifs.pace import giving_way

__all__ = ["LIGHT_S", "LOST_S", "TURN_S", "HeavyError", "Turns", "Work"]

LIGHT_S = 0.03
TURN_S = 0.02
LOST_S = 0.25


class HeavyError(BaseException):
    """A work turned out to be heavy where others work hard: it is to be begun anew, where only such ones wait."""


class Work:
    """One piece of work in a lane: begun in a thread, or still on its way there.

    movable: whether it may be begun anew, so that it does not wait for its turn in a thread that light works need.
    """

    def __init__(self, turns: "Turns", lane: Hashable, *, movable: bool = False) -> None:
        self.lane = lane
        self._movable = movable
        self._turns = turns
        self._asked = time.monotonic()
        self._seen: float | None = None
        self._begun = 0.0
        self._heavy = False
        self.waiting = False

    def last_sign(self) -> float:
        """Return when this work was last known to go on, by `time.monotonic`.

        One that waits goes on: for its turn, or for a thread while others in its lane go on.
        """
        if self.waiting:
            return time.monotonic()
        return max(self._asked, self._turns.last_sign(self.lane)) if self._seen is None else self._seen

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """Run what is inside as this work, in the thread that calls."""
        self._seen, self._begun = time.monotonic(), time.thread_time()
        try:
            with giving_way(self._step):
                yield
        finally:
            self._turns.end(self)

    def move(self) -> None:
        """Take note that the work is to be begun anew."""
        self._movable, self._seen, self._asked = False, None, time.monotonic()

    def seen(self, now: float) -> None:
        """Note a sign of life."""
        self._seen = now

    def _step(self, heavy: bool) -> None:
        self._heavy = self._heavy or heavy or time.thread_time() - self._begun > LIGHT_S
        if self._heavy and self._movable and self._turns.are_others_at_work(self):
            raise HeavyError
        self._turns.step(self, self._heavy)


class Turns:
    """The turns of all threads of a mount."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: dict[Hashable, deque[Work]] = {}  # the lane whose turn comes next first
        self._signs: dict[Hashable, float] = {}
        self._holder: Work | None = None
        self._began = self._came_back = 0.0

    def last_sign(self, lane: Hashable) -> float:
        """Return when a work of that lane last showed that it goes on."""
        return time.monotonic() if self._waiting.get(lane) else self._signs.get(lane, 0.0)

    def are_others_at_work(self, work: Work) -> bool:
        """Tell whether `work` would have to wait for its turn."""
        return self._holder not in (None, work) or bool(self._waiting)

    def step(self, work: Work, heavy: bool) -> None:
        """Take note that `work` goes on; a heavy one first waits for its turn."""
        now = time.monotonic()
        work.seen(now)
        self._signs[work.lane] = now
        if not heavy:
            return
        with self._changed:
            if self._holder is work:
                self._came_back = now
                if now - self._began < TURN_S or not self._waiting.keys() - {work.lane}:
                    return
                self._pass_on()
                queue = self._waiting.pop(work.lane, deque())
                queue.appendleft(work)  # its lane's own works come after it, and its lane after the others
                self._waiting[work.lane] = queue
            else:
                self._waiting.setdefault(work.lane, deque()).append(work)
            self._wait(work)
        work.seen(time.monotonic())

    def end(self, work: Work) -> None:
        """Take note that `work` is done."""
        now = time.monotonic()
        work.seen(now)
        with self._changed:
            self._signs[work.lane] = now
            if self._holder is work:
                self._pass_on()

    def _pass_on(self) -> None:
        self._holder = None
        self._changed.notify_all()

    def _wait(self, work: Work) -> None:
        work.waiting = True
        try:
            while not self._is_next(work):
                self._changed.wait(LOST_S)
        finally:
            work.waiting = False
            queue = self._waiting[work.lane]
            queue.remove(work)
            if not queue:
                del self._waiting[work.lane]
        self._holder = work
        self._began = self._came_back = time.monotonic()

    def _is_next(self, work: Work) -> bool:
        if self._holder is not None and time.monotonic() - self._came_back < LOST_S:
            return False
        return next(iter(self._waiting)) == work.lane and self._waiting[work.lane][0] is work
