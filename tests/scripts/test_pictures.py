"""The pictures of the README and of docs/: each is there, small, a well-formed SVG, and loads nothing from anywhere."""

from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drawing.capture import last_bar
from drawing.svg import DARK, LIGHT, svg

ROOT = Path(__file__).parents[2]
NAMES = [
    f"{name}-{columns}-{theme}.svg"
    for name, columns, theme in product(("list", "map", "export"), (80, 200), ("light", "dark"))
]
SPEED = "speed.svg"
"""What `scripts/bench --plot` draws."""
SPACE = "{http://www.w3.org/2000/svg}"


def test_the_pictures_are_those_that_the_pages_show() -> None:
    names = [*NAMES, SPEED]
    assert sorted(each.name for each in (ROOT / "docs").glob("*.svg")) == sorted(names)
    shown = (ROOT / "README.md").read_text().replace('"docs/', '"')
    shown += "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert [name for name in names if f'"{name}"' not in shown and f"({name})" not in shown] == []


def test_the_plot_loads_nothing_and_names_what_it_shows() -> None:
    plot = ElementTree.parse(ROOT / "docs" / SPEED).getroot()
    links = [value for each in plot.iter() for name, value in each.items() if name.endswith("href")]
    assert [link for link in links if not link.startswith("#")] == []
    assert [each.tag for each in plot.iter() if each.tag in (f"{SPACE}image", f"{SPACE}script")] == []
    shown = {"".join(each.itertext()).strip() for each in plot.iter(f"{SPACE}text")}
    assert {"size of the disk", "depth of the chain", "readers side by side", "vdifs"} <= shown


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small_and_loads_nothing(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert len(text) < 16384
    assert text.count("://") == text.count(SPACE[1:-1])
    assert "@" not in text
    words = " ".join(each.text or "" for each in ElementTree.fromstring(text).iter(f"{SPACE}text"))
    assert words.startswith(f"$ vdifs {name.split('-', maxsplit=1)[0]} ")


def test_words_stand_where_the_terminal_has_them() -> None:
    picture = ElementTree.fromstring(svg("x", "\x1b[1mab\x1b[0m  \x1b[30;43mc  d<\x1b[0m\n  e", 10, LIGHT))
    found = [(each.text, int(each.get("x") or 0), int(each.get("y") or 0)) for each in picture.iter(f"{SPACE}text")]
    assert found == [("$ x", 12, 25), ("ab", 12, 43), ("c", 44, 43), ("d<", 68, 43), ("e", 28, 61)]
    (_, back) = picture.iter(f"{SPACE}rect")
    assert (back.get("x"), back.get("y"), back.get("width"), back.get("height")) == ("44", "30", "40", "18")


def test_the_themes_differ() -> None:
    assert svg("x", "y", 10, LIGHT) != svg("x", "y", 10, DARK)


def test_the_last_bar_is_one_that_says_how_long_it_will_take() -> None:
    assert last_bar("") == ""
    assert last_bar("\r\x1b[2K━ 1 MiB 0:00:02\r\x1b[2K━━ 2 MiB 0:00:01\r\x1b[2K\n\x1b[?25h") == "━━ 2 MiB 0:00:01"
