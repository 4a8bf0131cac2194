"""The tree of `vdifs list` on a terminal: names to the left, what is known of them in columns. Loads rich.

A name is never cut off: one that leaves no room for the columns has a line for itself. What is wrong with an image is
told beneath it, wrapped within the tree.
"""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vdifs.cli.render.list_text import Row
from vdifs.wording import counted

__all__ = ["show"]

_HEADS = ("virtual size", "own data", "age")
_GAP = "  "
_NARROWEST = 30
"""However narrow the terminal is, problems get that many columns."""


def show(rows: Iterable[Row]) -> None:
    """Write the tree to standard output."""
    console = Console()
    for line in _lines(list(rows), console.width):
        console.print(line, soft_wrap=True)


def _lines(rows: list[Row], width: int) -> Iterator[Text]:
    """Yield the lines for a terminal of `width` columns."""
    widths = [
        max(len(head), *(len(cell) for cell in column)) for head, column in zip(_HEADS, _columns(rows), strict=True)
    ]
    marks = max(len(_marks(row)) for row in rows)
    room = width - sum(len(_GAP) + each for each in widths) - (marks + len(_GAP) if marks else 0)
    lengths = [cell_len(row.guides + row.name) for row in rows]
    names = max(len("image"), *(length for length in lengths if length <= room), 0)
    yield Text("image".ljust(names) + _cells(_HEADS, widths), "bold")
    for row in rows:
        yield from _image(row, names, widths)
        if row.problem:
            yield from _problem(row, width)
    failed = sum(bool(row.problem) for row in rows)
    yield Text(counted(len(rows), "image", "images") + (f", {failed} with a problem" if failed else ""), "dim")


def _image(row: Row, names: int, widths: list[int]) -> Iterator[Text]:
    line = Text.assemble((row.guides, "dim"), row.name)
    if cell_len(line.plain) > names:
        yield line
        line = Text.assemble((row.below, "dim"))
    line.append(" " * (names - cell_len(line.plain)))
    line.append(_cells((row.virtual_size or "?", row.own_data or "?", row.age), widths))
    if row.in_use:
        line.append(f"{_GAP}in use", "cyan")
    if row.hidden:
        line.append(f"{_GAP}hidden", "dim")
    line.rstrip()
    yield line


def _problem(row: Row, width: int) -> Iterator[Text]:
    words = Text(row.problem, "yellow" if row.in_use else "red")
    for line in words.wrap(Console(width=width), max(width - len(row.below), _NARROWEST)):
        line.rstrip()
        yield Text.assemble((row.below, "dim"), line)


def _columns(rows: list[Row]) -> list[list[str]]:
    return [[row.virtual_size for row in rows], [row.own_data for row in rows], [row.age for row in rows]]


def _cells(cells: Iterable[str], widths: list[int]) -> str:
    return "".join(_GAP + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _marks(row: Row) -> str:
    return _GAP.join([*(["in use"] if row.in_use else []), *(["hidden"] if row.hidden else [])])
