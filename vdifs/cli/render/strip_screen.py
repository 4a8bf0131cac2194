"""The strip of a disk on a terminal: a letter for each cell, on the colour of the layer that owns it. Loads rich.

The letters say it all where there are no colours.
"""

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vdifs.cli.render.strip import NOTHING, Cell, Owner, Strip, color
from vdifs.wording import size_text

__all__ = ["cells", "show"]

_ROWS = 8
_LABEL = 10
_EMPTY = "·"
_NARROWEST = 60
"""However narrow the terminal is, the legend gets that many columns: it is the names that would go."""


def cells() -> int:
    """Return how many cells the terminal has room for."""
    return _ROWS * _width(Console())


def show(strip: Strip) -> None:
    """Write the strip and its legend to standard output."""
    console = Console()
    for line in _lines(strip, _width(console)):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    console.print()
    Console(width=max(console.width, _NARROWEST)).print(_legend(strip))
    smaller = "; small letter: less than half of it" if any(_is_small(cell) for cell in strip.cells) else ""
    console.print(
        f"{size_text(strip.size)}, {size_text(strip.cell_size)} a cell{smaller}", style="dim", highlight=False
    )


def _width(console: Console) -> int:
    return max(console.width - _LABEL, 10)


def _lines(strip: Strip, width: int) -> Iterator[Text]:
    """Yield the rows, each with the offset of its first cell."""
    for first in range(0, len(strip.cells), width):
        line = Text(size_text(first * strip.cell_size).rjust(_LABEL - 1) + " ")
        for cell, run in groupby(strip.cells[first : first + width]):
            letter, style = _drawn(cell, strip.owners)
            line.append(letter * sum(1 for _ in run), style)
        yield line


def _drawn(cell: Cell, owners: tuple[Owner, ...]) -> tuple[str, str]:
    """Return the letter of a cell and its style."""
    if cell.owner == NOTHING:
        return _EMPTY, "dim"
    key = owners[cell.owner].key
    return key if cell.whole else key.lower(), _style(cell.owner)


def _style(owner: int) -> str:
    return f"#000000 on {color(owner)}"


def _legend(strip: Strip) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    table.add_column("file", overflow="fold")
    for head in ("data", "zeros", "of the disk"):
        table.add_column(head, justify="right", no_wrap=True)
    for index, owner in enumerate(strip.owners):
        key = Text(f" {owner.key} ", _style(index))
        part = owner.data + owner.zeros
        table.add_row(key, Text(owner.label), size_text(owner.data), size_text(owner.zeros), _percent(part, strip.size))
    table.add_row(Text(f" {_EMPTY} ", "dim"), "not in these files", "", "", _percent(strip.nothing, strip.size))
    return table


def _is_small(cell: Cell) -> bool:
    return cell.owner != NOTHING and not cell.whole


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"
