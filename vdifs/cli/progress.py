"""How far a long command has come, on standard error: a bar, JSON lines, or nothing. rich is loaded for a bar only."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import click

__all__ = ["Report", "progress_reports"]

Report = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, now and then."""

_SECONDS_BETWEEN_LINES = 0.5


@contextmanager
def progress_reports(kind: Literal["auto", "bar", "json", "none"]) -> Iterator[Report | None]:
    """Give the function that shows progress, None where nobody wants to see it."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "none"
    match kind:
        case "bar":
            with _bar() as report:
                yield report
        case "json":
            yield _JsonLines()
        case _:
            yield None


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
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        yield lambda done, total: progress.update(task, completed=done, total=total)
