"""What `vdifs list` and `vdifs map` draw on a terminal: at any width, with colours and without; and the picture."""

import os
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Vdifs
from tests.cli.terminal import on_terminal
from tests.support import oracle
from tests.support.builder import make
from tests.support.writers import qemu_io
from vdifs.cli.render.strip import NOTHING, Cell, Strip
from vdifs.report.map import MapRun

MIB = 1 << 20
LONG = "a-very-long-name-of-an-image-that-somebody-has-given-it-and-that-leaves-no-room-for-more.qcow2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images: base <- middle <- LONG, base <- other, and an orphan; base is three days old."""
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder / "base.qcow2", 64 * MIB)
    oracle.qemu_io("base.qcow2", ["write -P 1 0 16M", "write -z 32M 8M"], cwd=folder)
    for name, backing in [("middle.qcow2", "base.qcow2"), (LONG, "middle.qcow2"), ("other.qcow2", "base.qcow2")]:
        make(folder / name, 64 * MIB, backing=(backing, "qcow2"))
    oracle.qemu_io("middle.qcow2", ["write -P 2 8M 16M"], cwd=folder)
    oracle.qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "gone", "-F", "qcow2", "orphan.qcow2", "1M", cwd=folder)
    for path in folder.iterdir():
        os.utime(path, (time.time(), time.time() - 3 * 86400 - 100))
    return folder


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_a_list_has_every_name_whole_and_its_columns_aligned(columns: int, folder: Path) -> None:
    shown = on_terminal("list", folder, columns=columns)
    assert shown.status == 0
    lines = shown.lines
    for name in ("base.qcow2", "├── middle.qcow2", f"│   └── {LONG}", "└── other.qcow2", "orphan.qcow2"):
        assert sum(line.startswith(name) for line in lines) == 1
    ends = {line.index("16 MiB") + 6 for line in lines if "16 MiB" in line}
    assert ends == {lines[0].index("own data") + 8}
    (base,) = [line for line in lines if line.startswith("base.qcow2")]
    assert base.split() == ["base.qcow2", "64", "MiB", "16", "MiB", "3", "days"]
    rows = [line for line in lines if line.endswith(" 3 days")]
    assert len(rows) == 5  # LONG's has its columns beneath the name where there is no room beside it
    assert {len(row) for row in rows} == {len(lines[0])}
    wide = [line for line in lines if len(line) > columns]
    assert all(LONG in line for line in wide)
    assert bool(wide) == (columns < len(LONG))
    assert lines[-1] == "5 images, 1 with a problem"


def test_what_is_wrong_is_told_beneath_the_image_and_wrapped(folder: Path) -> None:
    lines = on_terminal("list", folder, columns=60).lines
    at = next(number for number, line in enumerate(lines) if line.startswith("orphan.qcow2"))
    told = " ".join(line.strip() for line in lines[at + 1 : -1])
    assert "its backing file cannot be opened" in told
    assert told.endswith("restore it, or correct the name")
    assert all(line.startswith("    ") for line in lines[at + 1 : -1])


def test_an_image_that_is_written_is_in_use(folder: Path, vdifs: Vdifs) -> None:
    with qemu_io(folder / "other.qcow2"):
        (line,) = [line for line in on_terminal("list", folder).lines if line.startswith("└── other")]
        (plain,) = [line for line in vdifs("list", folder).out.splitlines() if line.startswith("└── other")]
    assert line.endswith("  in use")
    assert "  in use  " in plain


@pytest.mark.parametrize("command", ["list", "map"])
def test_without_colours_the_same_is_said(command: str, folder: Path) -> None:
    what = folder if command == "list" else folder / "middle.qcow2"
    plain, colored = on_terminal(command, what, NO_COLOR="1"), on_terminal(command, what)
    assert (plain.has_colors, colored.has_colors) == (False, True)
    assert plain.lines == colored.lines
    assert not on_terminal(command, what, TERM="dumb").has_colors


def test_a_list_in_a_pipe_is_a_line_for_each_image(folder: Path, vdifs: Vdifs) -> None:
    lines = vdifs("list", folder).out.splitlines()
    assert len(lines) == 5
    assert lines[0] == "base.qcow2  64 MiB, 16 MiB of its own, 3 days old"
    assert lines[-1].startswith("orphan.qcow2  1 MiB, ")
    assert lines[-1].endswith("restore it, or correct the name")


@pytest.mark.parametrize("columns", [80, 200])
def test_a_map_on_a_terminal_is_a_strip_with_a_legend(columns: int, folder: Path) -> None:
    """The first 8 MiB are base's, then 16 MiB are middle's, and at 32 MiB there are 8 MiB of zeros of base's."""
    shown = on_terminal("map", "middle.qcow2", columns=columns, cwd=folder)
    rows = [line[10:] for line in shown.lines[:8]]
    assert {len(row) for row in rows[:-1]} == {columns - 10}
    strip = "".join(rows)
    assert re.fullmatch("B+[ab]?A+[ab]?·+b?B+b?·+", strip)
    assert strip.count("A") == pytest.approx(len(strip) / 4, abs=2)
    assert strip.upper().count("B") == pytest.approx(len(strip) / 4, abs=2)
    legend = shown.lines[9:]
    assert legend[1].split() == ["A", "middle.qcow2", "16", "MiB", "0", "B", "25.0", "%"]
    assert legend[2].split() == ["B", "base.qcow2", "8", "MiB", "8", "MiB", "25.0", "%"]
    assert legend[3].split() == ["·", "not", "in", "these", "files", "50.0", "%"]


def test_a_map_on_a_narrow_terminal_keeps_the_names(folder: Path) -> None:
    shown = on_terminal("map", "middle.qcow2", columns=24, cwd=folder)
    text = " ".join(shown.lines)
    assert re.search(r" A +middle.qcow2 +16 MiB ", text)
    assert re.search(r" B +base.qcow2 +8 MiB ", text)


def test_a_map_down_to_a_base_leaves_out_what_is_below(folder: Path) -> None:
    lines = on_terminal("map", folder / "middle.qcow2", "--base", folder / "base.qcow2").lines
    assert "base.qcow2" not in " ".join(lines)
    assert "B" not in "".join(line[10:] for line in lines[:8])


def test_a_map_in_a_pipe_is_the_table_of_qemu_img(folder: Path, vdifs: Vdifs) -> None:
    table = vdifs("map", folder / "middle.qcow2").out
    wanted = oracle.qemu_img("map", folder / "middle.qcow2")
    assert [numbers(line) for line in table.splitlines()] == [numbers(line) for line in wanted.splitlines()]


def numbers(line: str) -> list[object]:
    return [int(word, 16) if re.fullmatch("0x[0-9a-f]+|0", word) else word for word in line.split()]


def test_an_empty_disk_has_an_empty_strip(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 0)
    shown = on_terminal("map", tmp_path / "a.qcow2")
    assert shown.status == 0
    assert "0.0 %" in shown.lines[-2]


def test_the_picture_has_a_rectangle_for_each_part_and_the_names(folder: Path, vdifs: Vdifs) -> None:
    named = folder / "<&>.qcow2"
    make(named, 64 * MIB, backing=("base.qcow2", "qcow2"))
    status, out, err = vdifs("map", named, "--output", "svg")
    assert (status, err) == (0, "")
    root = ElementTree.fromstring(out)
    space = "{http://www.w3.org/2000/svg}"
    fills = [(each.get("fill") or "", int(each.get("width") or 0)) for each in root.iter(f"{space}rect")]
    first = next(fill for fill, _ in fills if fill)
    assert sum(width for fill, width in fills if fill == first) - 14 == pytest.approx(8 * 800 * 24 / 64, rel=0.01)
    texts = [each.text or "" for each in root.iter(f"{space}text")]
    assert f"{named}: 0 B data, 0 B zeros" in texts
    assert f"{folder / 'base.qcow2'}: 16 MiB data, 8 MiB zeros" in texts


def run(start: int, end: int, depth: int, *, data: bool = True) -> MapRun:
    return MapRun(start, end - start, depth, True, not data, data, False, None, depth)


def test_a_cell_is_whose_most_of_it_is() -> None:
    size, cell = 4 << 16, 1 << 16
    runs = [run(0, 100, 0), run(100, cell, 1), run(cell, cell + 5, 0), run(2 * cell, 4 * cell, 1, data=False)]
    strip = Strip.of(runs, ["top", "base"], size, 4)
    assert strip.cells == (Cell(1, True), Cell(0, False), Cell(1, True), Cell(1, True))
    assert [(owner.key, owner.data, owner.zeros) for owner in strip.owners] == [
        ("A", 105, 0),
        ("B", cell - 100, 2 * cell),
    ]
    assert strip.nothing == cell - 5


def test_a_cell_gets_of_a_run_what_lies_in_it() -> None:
    cell = 1 << 16
    strip = Strip.of(
        [run(0, cell - 10, 1), run(cell - 10, 2 * cell + 10, 0), run(2 * cell + 10, 3 * cell, 1)],
        ["a", "b"],
        3 * cell,
        3,
    )
    assert strip.cells == (Cell(1, True), Cell(0, True), Cell(1, True))


def test_cells_are_no_smaller_than_a_sector_and_the_last_may_be_cut() -> None:
    strip = Strip.of([run(0, 1536, 0)], ["only"], 1536, 2)
    assert (strip.cell_size, strip.cells) == (1024, (Cell(0, True), Cell(0, True)))
    assert Strip.of([], ["only"], 512, 1000).cells == (Cell(NOTHING, False),)


def test_of_very_many_layers_the_last_letter_stands_for_those_below() -> None:
    files = [f"layer{number}" for number in range(100)]
    strip = Strip.of([run(n << 16, (n + 1) << 16, n) for n in range(100)], files, 100 << 16, 100)
    assert len(strip.owners) == 26
    assert (strip.owners[-1].key, strip.owners[-1].label, strip.owners[-1].data) == ("Z", "75 files below", 75 << 16)
    assert strip.cells[99] == Cell(25, True)
