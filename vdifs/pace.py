"""Giving way: work that may take long says between its steps that others may come first.

Where nothing was said about the work, as on the command line, that does nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["give_way", "giving_way"]

_pause: ContextVar[Callable[[bool], None] | None] = ContextVar("pause", default=None)


def give_way(*, heavy: bool = False) -> None:
    """Let others come first, if they want to. To be called every few milliseconds, with no lock held.

    heavy: what follows takes much time or memory for sure.
    """
    pause = _pause.get()
    if pause is not None:
        pause(heavy)


@contextmanager
def giving_way(pause: Callable[[bool], None]) -> Iterator[None]:
    """Have `give_way` call `pause(heavy)` in what runs inside."""
    token = _pause.set(pause)
    try:
        yield
    finally:
        _pause.reset(token)
