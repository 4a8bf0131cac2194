"""What a command is at, on a terminal, once it takes a while: one line on standard error, taken away again.

Plain characters and a thread: it must cost a command that is quick nothing, and loading rich takes longer than most.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from vdifs.cli.interrupts import clearing_away
from vdifs.errors import printable

__all__ = ["At", "shown", "waiting"]

PATIENCE_S = 0.5
_PERIOD_S = 0.2
_CLEAR = "\r\x1b[K"
At = Callable[[str], None]
"""Called with what the command is at now."""


@contextmanager
def waiting(what: str) -> Iterator[At]:
    """Do as `shown`, and take the line away if the command is interrupted."""
    with clearing_away(), shown(what) as at:
        yield at


@contextmanager
def shown(what: str) -> Iterator[At]:
    """Show `what`, and then what the function that this gives is told, while the body runs longer than a moment."""
    line = _Line(what)
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield line.at
        return
    thread = Thread(target=line.show, daemon=True)
    thread.start()
    try:
        yield line.at
    finally:
        line.done.set()
        thread.join()


class _Line:
    """The line and its thread."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self.done = Event()

    def at(self, what: str) -> None:
        """Take note of what the command is at."""
        self._what = what

    def show(self) -> None:
        """Write the line again and again until it is done, and take it away."""
        if self.done.wait(PATIENCE_S):
            return
        while True:
            _write(_CLEAR + self._text())
            if self.done.wait(_PERIOD_S):
                break
        _write(_CLEAR)

    def _text(self) -> str:
        """Return the line, short enough for the terminal, as one that wraps could not be taken away."""
        seconds = f" ... {time.monotonic() - self._began:.0f} s"
        room = max(_columns() - len(seconds) - 1, 1)
        what = printable(self._what)
        return (what if len(what) <= room else what[: room - 1] + "…") + seconds


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def _write(text: str) -> None:
    try:
        os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "replace"))
    except OSError:
        pass  # the terminal has gone, which the command will notice itself
