"""Waiting for a source without stopping the event loop: threads, a limit per source file system, a deadline.

A thread that hangs in a system call cannot be cancelled, only left behind. It keeps its place under the limit of the
file systems it is about, so that a source that hangs uses up its own threads and nobody else's.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import trio

from vdifs.errors import StorageError, printable

__all__ = ["DeadlineError", "Threads"]

T = TypeVar("T")
Devices = frozenset[int]


class DeadlineError(StorageError):
    """A source did not answer in time. Says nothing about the image, so that nobody remembers it as broken.

    about: the file systems, for one line in the log however many images and readers are concerned.
    """

    about: Devices

    def __init__(self, message: str, about: Devices) -> None:
        super().__init__(message)
        self.about = about

    def named(self, name: str) -> "DeadlineError":
        """Return the same, of the image called `name`."""
        return DeadlineError(f"{printable(name)}: {self}", self.about)


class Threads:
    """Runs blocking functions. limit: threads per set of file systems. deadline: seconds until a wait is given up.

    waiting: entered as long as an answer is awaited.
    """

    def __init__(
        self, limit: int, deadline: float, waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._limit = limit
        self._waiting = waiting
        self.deadline = deadline
        self._limiters: dict[Devices, trio.CapacityLimiter] = {}

    async def run(self, devices: Devices, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), run in a thread. No deadline: for tasks that nobody waits for."""
        limiter = self._limiters.setdefault(devices, trio.CapacityLimiter(self._limit))
        with self._waiting():
            return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=limiter)

    async def answer(self, devices: Devices, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), run in a thread. Raises DeadlineError."""
        with trio.move_on_after(self.deadline):
            return await self.run(devices, function, *args)
        raise self.late(devices)

    def late(self, devices: Devices) -> DeadlineError:
        """Return the error for a source that did not answer in time."""
        waited = f"the source did not answer within {self.deadline:g} s"
        return DeadlineError(f"{waited}: check the disk or server below it", devices)
