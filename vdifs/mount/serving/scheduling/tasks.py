"""What goes on behind the requests: each task by itself, so that a bug in one ends no mount."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import trio

__all__ = ["Tasks"]

A = TypeVarTuple("A")

log = logging.getLogger(__name__)


class Tasks:
    """Starts tasks in the nursery of a running mount."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Run in `nursery` from now on: before the first request."""
        self._nursery = nursery

    def spawn(self, function: Callable[[Unpack[A]], Awaitable[object]], *args: *A) -> None:
        """Start function(*args) and go on."""
        assert self._nursery is not None, "start() comes before the first request"
        self._nursery.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        try:
            await function(*args)
        except Exception:
            log.exception("a task of the mount failed")
