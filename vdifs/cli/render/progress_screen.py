"""The bar of a long command on a terminal: bytes, rate, time left. Loads rich."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from vdifs.wording import size_text

__all__ = ["Bar"]


class Bar:
    """A bar of rich; until the first report, while images are opened, one that only moves."""

    def __init__(self) -> None:
        columns = (
            BarColumn(),
            DownloadColumn(binary_units=True, table_column=_unwrapped()),
            _RateColumn(_unwrapped()),
            TimeRemainingColumn(table_column=_unwrapped()),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self.progress.add_task("", total=None)

    def show(self, done: int, total: int) -> None:
        """Draw it."""
        self.progress.update(self._task, completed=done, total=total)

    def say(self, line: str) -> None:
        """Write a line above it."""
        self.progress.console.print(line, highlight=False)


class _RateColumn(ProgressColumn):
    """Bytes a second, in the units of everything else: rich's own column has those of 1000."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("?" if speed is None else f"{size_text(round(speed))}/s", style="progress.data.speed")


def _unwrapped() -> Column:
    return Column(no_wrap=True)
