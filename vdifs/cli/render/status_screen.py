"""`vdifs status --watch` on a terminal: a bar for each open file, drawn anew with each report. Loads rich."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vdifs.cli.render.status_text import OpenFile, Rates, duration_text
from vdifs.errors import printable
from vdifs.wording import counted, size_text

__all__ = ["show"]

_BAR_WIDTH = 20


def show(reports: Iterable[Mapping[str, Any]]) -> None:
    """Draw each report in place of the one before."""
    rates = Rates()
    with Live(console=Console(), auto_refresh=False) as live:
        for report in reports:
            files = rates.update(OpenFile.all_in(report), time.monotonic())
            live.update(_drawn(report, files), refresh=True)


def _drawn(report: Mapping[str, Any], files: list[OpenFile]) -> RenderableType:
    counters = report["counters"]
    head = Text.assemble(
        (printable(report["mountpoint"]), "bold"),
        f"  {counted(len(report['images']), 'image', 'images')}, {size_text(counters['bytes_read'])} read",
        (f"  {counters['failed_reads']} reads failed" if counters["failed_reads"] else "", "red"),
    )
    return Group(head, _table(files) if files else Text("no file is open", "dim"))


def _table(files: list[OpenFile]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(ratio=1, overflow="fold")
    for justify in ("left", "right", "right", "right", "right"):
        table.add_column(no_wrap=True, justify=justify)
    for file in files:
        table.add_row(
            Text(printable(file.name)),
            ProgressBar(total=max(file.size, 1), completed=file.position if file.size else 1, width=_BAR_WIDTH),
            f"{file.percent:.0f} %",
            f"{size_text(file.position)} of {size_text(file.size)}",
            "" if file.rate is None else f"{size_text(round(file.rate))}/s",
            "" if not file.seconds_left else duration_text(file.seconds_left),
        )
    return table
