"""What the threads of a process share begins anew in a process just forked from it: none of those threads is there.

A lock that one of them held would be held for ever, and what it was about to do would never be done.
"""

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Shared", "start_anew_when_forked"]


class Shared(Protocol):
    """Something that threads share."""

    def start_anew(self) -> None:
        """Become as it was when it was made, and locked by no thread."""


_all: WeakSet[Shared] = WeakSet()


def start_anew_when_forked(shared: Shared) -> None:
    """Have `shared` begin anew in each process that is forked while it is there."""
    _all.add(shared)


def _start_all_anew() -> None:
    for shared in _all:
        shared.start_anew()


os.register_at_fork(after_in_child=_start_all_anew)
