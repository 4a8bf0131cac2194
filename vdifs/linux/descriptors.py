"""The open files that a process was born with: the lock of a cron job, a pipe whose reader waits for its end."""

import os
from collections.abc import Collection
from contextlib import suppress

__all__ = ["close_all_but", "keep_from_programs", "standard_to_null"]

_FIRST_OTHER = 3


def close_all_but(kept: Collection[int]) -> None:
    """Close every descriptor of this process but the standard ones and `kept`."""
    for number in _others():
        if number not in kept:
            with suppress(OSError):
                os.close(number)


def keep_from_programs() -> None:
    """Let no program that this process starts have its descriptors, but for the standard ones."""
    for number in _others():
        with suppress(OSError):
            os.set_inheritable(number, False)


def standard_to_null() -> None:
    """Have nothing behind standard input, output and error."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(_FIRST_OTHER):
        os.dup2(null, standard)
    if null >= _FIRST_OTHER:
        os.close(null)


def _others() -> list[int]:
    """Return those above the standard ones, and one more, which has been closed: that by which they were found."""
    return [number for number in map(int, os.listdir("/proc/self/fd")) if number >= _FIRST_OTHER]
