"""Signals of a mount: SIGTERM, SIGINT and SIGHUP end it, whenever they come; no other does.

Where the mount is about to be made, or to be taken away, a signal must not tear the work in two: it is noted, and
looked at when that is done.
"""

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from vdifs.errors import Interrupted
from vdifs.linux.libc import system_call
from vdifs.linux.syscall_numbers import number_here

__all__ = ["ENDING", "blocked", "ignore_all_but_ending", "noted", "raise_on_ending", "set_ending", "wanted"]

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LEFT_ALONE = frozenset({
    *ENDING, signal.SIGKILL, signal.SIGSTOP,
    signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,  # which end nothing
    signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,  # which stop it, for a while
})  # fmt: skip
_OF_THE_C_LIBRARY = (32, 33)
"""It keeps these two for itself, out of Python's sight, and sets them when it needs them. Until then they would end
the process."""


def ignore_all_but_ending() -> None:
    """Let no signal but ENDING end this process, as far as a process may choose, and let none of them be blocked.

    A fault of the process itself ends it as ever: the kernel sends such a signal to a process that ignores it, too.
    """
    for number in signal.valid_signals() - _LEFT_ALONE:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignores it is not told how a child ended
    _ignore_those_of_the_c_library()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def wanted() -> list[signal.Signals]:
    """Return those of ENDING that this process is to heed: nohup has SIGHUP ignored, a shell's `&` SIGINT."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


def raise_on_ending() -> None:
    """Have Interrupted raised by those of ENDING that are wanted."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    for number in wanted():
        signal.signal(number, interrupt)


def set_ending(action: signal.Handlers) -> None:
    """Have all of ENDING ignored, or end the process at once."""
    for number in ENDING:
        signal.signal(number, action)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Note those of ENDING that are wanted, in the list that this gives, and do no more about them meanwhile."""
    numbers: list[int] = []
    before = {number: signal.getsignal(number) for number in wanted()}
    for number in before:
        signal.signal(number, lambda got, _: numbers.append(got))
    try:
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def blocked() -> Iterator[None]:
    """Let signals wait: for a fork, whose child must not do with them what its parent does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_those_of_the_c_library() -> None:
    call = number_here("rt_sigaction")
    if call is not None:
        action = struct.pack(
            "4Q", signal.SIG_IGN, 0, 0, 0
        )  # struct sigaction of the kernel: handler, flags, restorer, mask
        for number in _OF_THE_C_LIBRARY:
            with suppress(OSError):
                system_call(call, number, action, None, 8)
