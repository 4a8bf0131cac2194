"""Signals that end a command which has something to clear away: a file half written, a line on the terminal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn

from vdifs.errors import Interrupted

__all__ = ["clearing_away"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def clearing_away() -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and SIGHUP raise Interrupted meanwhile, once; those that are ignored, as by nohup, are not.

    Elsewhere they end a command at once, and nothing in it need be prepared for that.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        for other in heeded:
            signal.signal(other, signal.SIG_IGN)  # a second one would tear the clearing away in two
        raise Interrupted(number)

    for number in heeded:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])
