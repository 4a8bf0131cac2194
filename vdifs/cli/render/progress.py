"""How far a long command has come, on standard error: a bar, JSON lines, or nothing. rich is loaded for a bar only.

SIGUSR1 prints a line at any time, as it does with qemu-img.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

import click

if TYPE_CHECKING:
    from vdifs.cli.render.progress_screen import Bar

__all__ = ["Report", "progress_reports"]

_SECONDS_BETWEEN_LINES = 0.5
_STANDARD_ERROR = 2

Kind = Literal["auto", "bar", "json", "none"]


class Report(Protocol):
    """Called with the bytes done and the bytes in all, now and then."""

    def __call__(self, done: int, total: int) -> None:
        """Take note."""


@contextmanager
def progress_reports(kind: Kind) -> Iterator[Report]:
    """Give the function that shows progress, from opening on; what is shown begins with its first call."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "none"
    match kind:
        case "bar":
            with _bar() as bar, _told_on_signal(bar.show, bar.say) as report:
                yield report
        case "json":
            with _told_on_signal(_JsonLines()) as report:
                yield report
        case _:
            with _told_on_signal(_nothing) as report:
                yield report


@contextmanager
def _told_on_signal(shown: Report, say: Callable[[str], None] | None = None) -> Iterator[Report]:
    """Pass every report on to `shown`; on SIGUSR1, say the last one."""
    percent = 0.0

    def report(done: int, total: int) -> None:
        nonlocal percent
        percent = 100 * done / total if total else 100.0
        shown(done, total)

    def tell(*_: object) -> None:
        line = f"    ({percent:3.2f}/100%)"
        if say is not None:
            say(line)
        else:
            os.write(_STANDARD_ERROR, f"{line}\n".encode())  # the buffered way may be what the signal interrupts

    before = signal.signal(signal.SIGUSR1, tell)
    try:
        yield report
    finally:
        signal.signal(signal.SIGUSR1, before)


def _nothing(done: int, total: int) -> None:
    del done, total


class _JsonLines:
    """One object a line: first, last, and at most two a second between them."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now >= self._next:
            self._next = now + _SECONDS_BETWEEN_LINES
            click.echo(json.dumps({"done": done, "total": total}), err=True)


@contextmanager
def _bar() -> Iterator["Bar"]:
    from vdifs.cli.render.progress_screen import Bar

    bar = Bar()
    with bar.progress:
        yield bar
