"""The strip of a disk as a picture: SVG, legible on a light and on a dark page, with the names as text."""

from collections.abc import Iterator
from itertools import groupby
from xml.sax.saxutils import escape

from vdifs.cli.render.strip import NOTHING, Cell, Strip, color
from vdifs.wording import size_text

__all__ = ["CELLS", "svg"]

_IN_A_ROW, _ROWS = 160, 8
CELLS = _IN_A_ROW * _ROWS
_CELL, _ROW, _GAP = 5, 22, 4
_LEFT, _TOP, _RIGHT = 80, 12, 20
_LINE = 20
_STYLE = """text { font: 13px sans-serif; fill: #222 } .nothing { fill: #8883 } .part { opacity: .55 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }"""


def svg(strip: Strip) -> str:
    """Return the picture."""
    return "\n".join(_lines(strip)) + "\n"


def _lines(strip: Strip) -> Iterator[str]:
    rows = -(-len(strip.cells) // _IN_A_ROW)
    legend = _TOP + rows * (_ROW + _GAP) + _LINE
    width, height = _LEFT + _IN_A_ROW * _CELL + _RIGHT, legend + (len(strip.owners) + 2) * _LINE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    yield f"<style>{_STYLE}</style>"
    for row in range(rows):
        y = _TOP + row * (_ROW + _GAP)
        offset = size_text(row * _IN_A_ROW * strip.cell_size)
        yield f'<text x="{_LEFT - 8}" y="{y + 16}" text-anchor="end">{offset}</text>'
        yield from _row(strip.cells[row * _IN_A_ROW : (row + 1) * _IN_A_ROW], y)
    for index, owner in enumerate(strip.owners):
        held = f"{size_text(owner.data)} data, {size_text(owner.zeros)} zeros"
        yield from _entry(legend + index * _LINE, f'fill="{color(index)}"', f"{owner.label}: {held}")
    y = legend + len(strip.owners) * _LINE
    yield from _entry(
        y, 'class="nothing"', f"not in these files: {size_text(strip.nothing)} of {size_text(strip.size)}"
    )
    yield "</svg>"


def _row(cells: tuple[Cell, ...], y: int) -> Iterator[str]:
    """Yield a rectangle for each run of cells that look alike."""
    x = _LEFT
    for cell, run in groupby(cells):
        width = sum(1 for _ in run) * _CELL
        look = 'class="nothing"' if cell.owner == NOTHING else f'fill="{color(cell.owner)}"'
        part = ' class="part"' if cell.owner != NOTHING and not cell.whole else ""
        yield f'<rect x="{x}" y="{y}" width="{width}" height="{_ROW}" {look}{part}/>'
        x += width


def _entry(y: int, look: str, text: str) -> Iterator[str]:
    yield f'<rect x="{_LEFT}" y="{y - 11}" width="14" height="14" {look}/>'
    yield f'<text x="{_LEFT + 22}" y="{y}">{escape(text)}</text>'
