"""`vdifs status --watch` on a terminal: a bar for each open file, drawn anew with each report. Loads rich."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vdifs.cli.render.status_text import Rates, Reading, duration_text
from vdifs.errors import printable
from vdifs.report.status import OpenFile
from vdifs.wording import counted, size_text

__all__ = ["show"]

_BAR_WIDTH = 20


def show(reports: Iterable[Mapping[str, Any]]) -> None:
    """Draw each report in place of the one before."""
    rates = Rates()
    with Live(console=Console(), auto_refresh=False) as live:
        for report in reports:
            readings = rates.update(OpenFile.all_in(report), time.monotonic())
            live.update(_drawn(report, readings), refresh=True)


def _drawn(report: Mapping[str, Any], readings: list[Reading]) -> RenderableType:
    counters = report["counters"]
    head = Text.assemble(
        (printable(report["mountpoint"]), "bold"),
        f"  {counted(len(report['images']), 'image', 'images')}, {size_text(counters['bytes_read'])} read",
        (f"  {counters['failed_reads']} reads failed" if counters["failed_reads"] else "", "red"),
    )
    return Group(head, _table(readings) if readings else Text("no file is open", "dim"))


def _table(readings: list[Reading]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(ratio=1, overflow="fold")
    for justify in ("left", "right", "right", "right", "right"):
        table.add_column(no_wrap=True, justify=justify)
    for reading in readings:
        file = reading.file
        table.add_row(
            Text(printable(file.path)),
            ProgressBar(total=max(file.size, 1), completed=file.position if file.size else 1, width=_BAR_WIDTH),
            f"{reading.percent:.0f} %",
            f"{size_text(file.position)} of {size_text(file.size)}",
            "" if reading.rate is None else f"{size_text(round(reading.rate))}/s",
            "" if not reading.seconds_left else duration_text(reading.seconds_left),
        )
    return table
