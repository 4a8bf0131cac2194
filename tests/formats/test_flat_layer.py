"""Disks that lie in a row in their file, and data that lie in holes of their file."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stated import READ_KINDS, StatedLayer, layers, rows
from vdifs.extents import Extents, Kind, MapKind
from vdifs.formats.flat_layer import FlatLayer
from vdifs.formats.layer import without_holes
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile

BLOCK = 1 << 16


def by_byte(extents: Extents) -> list[tuple[Kind, int, int]]:
    found: list[tuple[Kind, int, int]] = []
    for start, stop, kind, layer, host in rows(extents):
        found += [(kind, layer, host + at if kind == Kind.DATA else host) for at in range(stop - start)]
    return found


@st.composite
def disks(draw: st.DrawFn) -> Extents:
    """Draw a few hundred bytes of disk, its data anywhere in a file of 200 bytes."""
    run = st.tuples(st.integers(1, 40), st.sampled_from(READ_KINDS), st.integers(0, 160))
    runs = draw(st.lists(run, min_size=1, max_size=8))
    layer = StatedLayer(tuple((length, kind, host if kind >= Kind.DATA else 0) for length, kind, host in runs))
    return layer.whole()


@st.composite
def disks_and_edges(draw: st.DrawFn) -> tuple[Extents, list[int]]:
    """Draw a disk, and where the data of its file start and end, in turns; often where its runs do or a byte beside."""
    disk = draw(disks())
    near = {host + at for start, stop, _, _, host in rows(disk) for at in (0, 1, stop - start - 1, stop - start)}
    edges = sorted(draw(st.sets(st.one_of(st.sampled_from(sorted(near)), st.integers(0, 220)), max_size=10)))
    return disk, edges[: len(edges) - len(edges) % 2]


@given(disks_and_edges())
def test_data_in_a_hole_are_zeros_and_nothing_else_changes(drawn: tuple[Extents, list[int]]) -> None:
    disk, edges = drawn

    def in_data(host: int) -> bool:
        return sum(edge <= host for edge in edges) % 2 == 1

    wanted = [
        (Kind.ZERO, layer, 0) if kind == Kind.DATA and not in_data(host) else (kind, layer, host)
        for kind, layer, host in by_byte(disk)
    ]
    assert by_byte(without_holes(disk, Ranges(np.array(edges, np.int64)))) == wanted


@given(disks_and_edges())
def test_for_a_map_a_hole_keeps_its_place(drawn: tuple[Extents, list[int]]) -> None:
    disk, edges = drawn
    plain = without_holes(disk, Ranges(np.array(edges, np.int64)))
    detailed = without_holes(disk, Ranges(np.array(edges, np.int64)), MapKind.DATA_HOLE)
    places = [(host + at) for start, stop, _, _, host in rows(disk) for at in range(stop - start)]
    columns = (detailed.length, detailed.kind, detailed.host)
    found = [
        (MapKind(kind), host + at)
        for length, kind, host in zip(*(column.tolist() for column in columns), strict=True)
        for at in range(length)
    ]
    for (kind, host), place, (plain_kind, _, _), (old_kind, _, _) in zip(
        found, places, by_byte(plain), by_byte(disk), strict=True
    ):
        if kind == MapKind.DATA_HOLE:
            assert (host, plain_kind, old_kind) == (place, Kind.ZERO, Kind.DATA)
        else:
            assert int(kind) == int(plain_kind)


@given(layers())
def test_a_file_without_holes_changes_nothing(layer: StatedLayer) -> None:
    if layer.virtual_size:
        whole = layer.whole()
        assert without_holes(whole, Ranges(np.array([0, 1 << 40], np.int64))) is whole


@pytest.fixture
def raw(tmp_path: Path) -> HostFile:
    """One block of data, one of hole, 1000 bytes of data."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(b"\xda" * BLOCK)
        file.seek(2 * BLOCK)
        file.write(b"\xda" * 1000)
    return HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))


def test_a_raw_file_is_data_and_zeros_rounded_up_to_a_sector(raw: HostFile) -> None:
    layer = FlatLayer(raw)
    assert layer.virtual_size == 2 * BLOCK + 1024
    assert layer.populated().tolist() == [[0, BLOCK], [2 * BLOCK, raw.size]]
    kinds = [(start, stop, kind, host) for start, stop, kind, _, host in rows(layer.extents(0, layer.virtual_size))]
    assert kinds[0] == (0, BLOCK, Kind.DATA, 0)
    assert kinds[1] == (BLOCK, 2 * BLOCK, Kind.ZERO, 0)
    assert kinds[2][0::2] == (2 * BLOCK, Kind.DATA)
    raw.close()


def test_a_part_of_a_raw_file_is_a_slice_of_the_whole(raw: HostFile) -> None:
    layer = FlatLayer(raw)
    whole = layer.extents(0, layer.virtual_size)
    for start in range(0, layer.virtual_size, 20_000):
        for end in range(start + 1, layer.virtual_size + 1, 33_333):
            assert list(rows(layer.extents(start, end))) == list(rows(whole.between(start, end)))
    raw.close()


def test_an_empty_raw_file_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.raw"
    path.touch()
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    layer = FlatLayer(file)
    file.close()
    assert layer.virtual_size == 0
    assert layer.populated().shape == (0, 2)
