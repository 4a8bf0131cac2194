"""Waiting for a source without stopping the event loop: threads, a limit for each lane, a deadline.

A thread that hangs in a system call cannot be cancelled, only left behind. It keeps its place under the limit of the
file systems it is about, so that a source that hangs uses up its own threads only. What may take long
works in turns, and has a lane for each owner of images besides.
"""

import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import trio

from vdifs.errors import StorageError, VdifsError
from vdifs.mount.serving.scheduling.turns import HeavyError, Turns, Work

__all__ = ["DeadlineError", "Threads"]

T = TypeVar("T")
Devices = frozenset[int]

_LONGEST = 10
"""A work that goes on is waited for no longer than so many deadlines."""


class DeadlineError(StorageError):
    """A source did not answer in time. Says nothing about the image, so that it is not remembered as broken.

    about: the file systems, for one line in the log however many images and readers are concerned.
    """

    remedy = "check the disk or server below it"


class Threads:
    """Runs blocking functions. limit: threads per set of file systems. deadline: seconds until a wait is given up.

    turns: those of all threads of the mount.
    """

    def __init__(
        self,
        limit: int,
        deadline: float,
        turns: Turns | None = None,
    ) -> None:
        self._limit = limit
        self._turns = turns or Turns()
        self.deadline = deadline
        self._limiters: dict[Hashable, trio.CapacityLimiter] = {}

    async def run(self, devices: Devices, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), run in a thread. No deadline: for tasks that no request waits for."""
        return await self._run(devices, function, *args)

    async def answer(self, devices: Devices, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), run in a thread. Raises DeadlineError."""
        with trio.move_on_after(self.deadline):
            return await self.run(devices, function, *args)
        raise self.late(devices)

    def work(self, devices: Devices, owner: int | None = None) -> Work:
        """Return a piece of work about the files of `owner` on those file systems, for `run_work`."""
        return Work(self._turns, (devices, owner, self._limit), movable=owner is not None)

    async def run_work(self, work: Work, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), run in a thread as `work`. No deadline."""

        def in_thread() -> T:
            with work.in_thread():
                return function(*args)

        try:
            return await self._run(work.lane, in_thread)
        except HeavyError:
            work.move()
        return await self._run((work.lane, "heavy"), in_thread)

    async def answer_work(self, work: Work, devices: Devices, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), run in a thread as `work`. Raises DeadlineError where that does not go on."""
        done, results, errors = trio.Event(), list[T](), list[Exception]()

        async def run() -> None:
            try:
                results.append(await self.run_work(work, function, *args))
            except VdifsError as error:
                errors.append(error.bare())  # its frames would hold, in a circle, all that the work had in memory
            except Exception as error:  # noqa: BLE001 - raised again in the task that waits
                errors.append(error)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await self.wait_for(work, done)
            nursery.cancel_scope.cancel()
        for error in errors:
            raise error
        for result in results:
            return result
        raise self.late(devices)

    async def wait_for(self, work: Work, done: trio.Event) -> None:
        """Return when `done`, or when `work` was not seen to go on for the time of the deadline."""
        begun = time.monotonic()
        while not done.is_set():
            now = time.monotonic()
            left = min(work.last_sign(), begun + (_LONGEST - 1) * self.deadline) + self.deadline - now
            if left <= 0:
                return
            with trio.move_on_after(left):
                await done.wait()

    def late(self, devices: Devices) -> DeadlineError:
        """Return the error for a source that did not answer in time."""
        return DeadlineError(f"the source did not answer within {self.deadline:g} s", about=devices)

    async def _run(self, lane: Hashable, function: Callable[..., T], *args: object) -> T:
        limiter = self._limiters.setdefault(lane, trio.CapacityLimiter(self._limit))
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=limiter)
