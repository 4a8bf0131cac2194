"""Closing a descriptor that other threads may be reading: its number must not be another file's before they are done.

A thread that has taken the number and is about to read would else get bytes of whatever file is opened next.
"""

import os
from types import TracebackType

__all__ = ["Users"]


class Users:
    """The threads that use a descriptor, whose number they look up once they are inside: `with users: pread(self.fd)`.

    No lock is taken: appending to a list, popping from it and looking whether it is empty are atomic. A descriptor is
    closed after its owner has forgotten the number; so a thread that enters later cannot have it, and one that entered
    before is seen, or sees that it has to close.
    """

    __slots__ = ("_inside", "_open", "_waiting")

    def __init__(self, fd: int) -> None:
        """Start with no threads inside. Takes ownership of `fd`."""
        self._inside: list[None] = []
        self._open = [fd]
        self._waiting: list[int] = []

    def __enter__(self) -> None:
        self._inside.append(None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._inside.pop()
        if self._waiting:
            self._close_unused()

    def close(self) -> None:
        """Close the descriptor, whose number its owner has forgotten: now, or when the last thread leaves."""
        _move(self._open, self._waiting)
        self._close_unused()

    def _close_unused(self) -> None:
        if not self._inside:
            closing: list[int] = []
            _move(self._waiting, closing)
            for fd in closing:
                os.close(fd)


def _move(source: list[int], target: list[int]) -> None:
    """Move what is in `source`, if another thread has not been faster."""
    try:
        target.append(source.pop())
    except IndexError:
        pass
