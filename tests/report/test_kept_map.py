"""The maps that a mount tells are made once for all names of the same files."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.many_snapshots import write_l2_tables
from vdifs.catalog.catalog import Catalog
from vdifs.chain.flattening import Flattening
from vdifs.cli.main import main
from vdifs.extents import Extents
from vdifs.report.kept_map import KeptMap

MOST = 4 << 20
NAMES = ("a.qcow2", "b.qcow2", "a much longer name.qcow2", "\udcff.qcow2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    first = folder / NAMES[0]
    write_l2_tables(first, 8)
    for name in NAMES[1:]:
        os.link(first, folder / name)
    return folder


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the ranges of a disk that are resolved from now on."""
    found = []
    original = Flattening.parts

    def parts(self: Flattening, start: int, end: int) -> Iterator[Extents]:
        found.append((start, end))
        return original(self, start, end)

    monkeypatch.setattr(Flattening, "parts", parts)
    return found


def scanned(source: Path) -> Catalog:
    """Return what is in `source`, whose files are old enough for their time stamps to tell a state."""
    catalog = Catalog(os.fspath(source))
    catalog.scan()
    return catalog


def test_all_names_of_a_file_have_its_map_and_it_is_made_once(
    source: Path, resolved: list[tuple[int, int]], capfd: pytest.CaptureFixture[str]
) -> None:
    kept = KeptMap()
    with closing(scanned(source)) as catalog:
        made = {name: kept.text(catalog.policy, catalog.entries[name], MOST) or b"" for name in NAMES}
    assert len(resolved) == 1
    for name, text in made.items():
        assert main(["map", str(source / name), "--output", "json"]) == 0
        assert json.loads(text) == json.loads(capfd.readouterr().out)
        assert text == text.strip() + b"\n"


def test_of_a_map_that_is_too_long_only_that_is_kept(source: Path, resolved: list[tuple[int, int]]) -> None:
    kept = KeptMap()
    with closing(scanned(source)) as catalog:
        for name in NAMES:
            assert kept.text(catalog.policy, catalog.entries[name], 1000) is None
        assert len(resolved) == 1
        whole = kept.text(catalog.policy, catalog.entries[NAMES[0]], MOST)
    assert len(resolved) == 2
    assert len(json.loads(whole or b"")) == 8 * 64


def test_whether_a_map_is_too_long_is_told_for_each_name(source: Path) -> None:
    kept = KeptMap()
    with closing(scanned(source)) as catalog:
        short, long = (catalog.entries[name] for name in (NAMES[0], NAMES[2]))
        length = len(kept.text(catalog.policy, short, MOST) or b"")
        assert kept.text(catalog.policy, long, length) is None
        assert len(kept.text(catalog.policy, short, length) or b"") == length
        assert kept.text(catalog.policy, short, length - 1) is None
