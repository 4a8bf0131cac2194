"""What stands on a terminal as SVG, in a light or a dark theme. Each word is put where the terminal has it.

No fonts are loaded from anywhere: the reader's own, whatever the width of its letters, is stretched to the cells.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from rich.cells import cell_len
from rich.color import blend_rgb
from rich.color_triplet import ColorTriplet
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

__all__ = ["DARK", "LIGHT", "svg"]

_WIDTH, _HEIGHT = 8, 18
_BASELINE = 13
_MARGIN = 12
_STYLE = """text { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre }
.bold { font-weight: bold }"""
_WORD = re.compile(r"\S+(?: \S+)*")

_LIGHT_COLORS = (
    (36, 41, 47), (180, 35, 24), (26, 127, 55), (139, 90, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131),
    (87, 96, 106),
)  # fmt: skip
_DARK_COLORS = (
    (72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
    (177, 186, 196),
)  # fmt: skip
LIGHT = TerminalTheme((255, 255, 255), (31, 35, 40), list(_LIGHT_COLORS))
DARK = TerminalTheme((13, 17, 23), (230, 237, 243), list(_DARK_COLORS))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Characters of one style. column: where on the terminal they begin."""

    text: str
    column: int
    style: Style


def svg(prompt: str, text: str, columns: int, theme: TerminalTheme) -> str:
    """Return the picture of a command line and of what it wrote, escapes and all."""
    console = Console(width=columns, force_terminal=True, color_system="truecolor", legacy_windows=False)
    whole = Text.assemble((f"$ {prompt}\n", "dim"), Text.from_ansi(text.rstrip()))
    lines = console.render_lines(whole, pad=False)
    width, height = columns * _WIDTH + 2 * _MARGIN, len(lines) * _HEIGHT + 2 * _MARGIN
    back = theme.background_color.hex
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{_STYLE}</style>",
            f'<rect width="{width - 1}" height="{height - 1}" x=".5" y=".5" rx="6" fill="{back}" stroke="#8886"/>',
            *(part for number, line in enumerate(lines) for part in _line(line, _MARGIN + number * _HEIGHT, theme)),
            "</svg>\n",
        ]
    )


def _line(line: list[Segment], top: int, theme: TerminalTheme) -> Iterator[str]:
    for piece in _pieces(line):
        left, width = _MARGIN + piece.column * _WIDTH, cell_len(piece.text) * _WIDTH
        if piece.style.bgcolor is not None:
            fill = piece.style.bgcolor.get_truecolor(theme, foreground=False).hex
            yield f'<rect x="{left}" y="{top}" width="{width}" height="{_HEIGHT}" fill="{fill}"/>'
        bold = ' class="bold"' if piece.style.bold else ""
        color = f'fill="{_color(piece.style, theme).hex}"{bold}'
        for word in _WORD.finditer(piece.text):
            x, length = left + cell_len(piece.text[: word.start()]) * _WIDTH, cell_len(word[0]) * _WIDTH
            place = f'x="{x}" y="{top + _BASELINE}" textLength="{length}" lengthAdjust="spacingAndGlyphs"'
            yield f"<text {place} {color}>{escape(word[0])}</text>"


def _pieces(line: list[Segment]) -> Iterator[_Piece]:
    """Yield the pieces of a line; neighbours of one style, which a terminal may write one by one, are one."""
    text, style, begin, column = "", Style.null(), 0, 0
    for segment in line:
        if (segment.style or Style.null()) != style:
            if text:
                yield _Piece(text, begin, style)
            text, style, begin = "", segment.style or Style.null(), column
        text += segment.text
        column += cell_len(segment.text)
    if text:
        yield _Piece(text, begin, style)


def _color(style: Style, theme: TerminalTheme) -> ColorTriplet:
    plain = theme.foreground_color
    color = plain if style.color is None else style.color.get_truecolor(theme)
    return blend_rgb(color, theme.background_color, 0.4) if style.dim else color
