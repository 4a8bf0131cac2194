"""L2 tables whose clusters get other places, read back as any reader of qcow2 reads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.qcow2 import COMPRESSED, COPIED, compressed_entry, compressed_place, words
from vdifs.extents import Kind
from vdifs.formats.qcow2.entries import decode_extended_l2, decode_l2
from vdifs.formats.qcow2.geometry import SUBCLUSTERS, Geometry
from vdifs.formats.qcow2.packed_tables import PackedTable

SMALL = Geometry(9, 64 * 512)
LARGE = Geometry(16, 4096 * 65536, extended_l2=True)
ALL = (1 << 32) - 1
SOME, REST = 0xFF, ALL & ~0xFF


def table_of(*entries: int, geometry: Geometry = SMALL, index: int = 0, delta: bool = False) -> PackedTable:
    """Return a table that begins with these words."""
    return PackedTable(words(*entries).ljust(geometry.cluster_size, b"\0"), index, geometry, delta=delta)


def extended(*bitmaps: int) -> list[int]:
    """Return the words of clusters with these bitmaps."""
    return [word for number, bitmap in enumerate(bitmaps, 1) for word in (number << 16 | COPIED, bitmap)]


def kinds(table: bytes, geometry: Geometry, units: int) -> list[Kind]:
    """Return what the first units of a table hold, as vdifs reads it."""
    entries = np.frombuffer(table, ">u8").astype(np.uint64)
    runs = decode_extended_l2(entries, geometry) if geometry.extended_l2 else decode_l2(entries, geometry, 3)
    lengths = np.diff(np.append(runs.first, geometry.units_per_l2))
    return [Kind(kind) for kind in runs.kind.repeat(lengths)[:units].tolist()]


@pytest.mark.parametrize(("delta", "zeros"), [(False, Kind.UNALLOCATED), (True, Kind.ZERO)])
def test_each_cluster_becomes_what_is_put(delta: bool, zeros: Kind) -> None:
    table = table_of(512 | COPIED, 1, 1024 | COPIED, 0, 1536 | COPIED, delta=delta)
    assert (table.places.tolist(), table.offsets.tolist()) == ([0, 2, 4], [512, 1024, 1536])
    assert table.packable.all()
    assert not len(table.packed_places)
    table.put_packed(0, 5000, 100)
    table.put_plain(2, 2048)
    assert kinds(table.pack(), SMALL, 6) == [
        Kind.COMPRESSED, Kind.ZERO, Kind.DATA, Kind.UNALLOCATED, zeros, Kind.UNALLOCATED,
    ]  # fmt: skip
    assert table.pack()[16:24] == words(2048 | COPIED)


@given(st.integers(9, 21), st.integers(0, (1 << 48) - 1), st.data())
def test_an_entry_tells_where_the_packed_bytes_lie(bits: int, offset: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 1 << bits))
    table = table_of(512 << 12 | COPIED, geometry=Geometry(bits, 64 << bits))
    table.put_packed(0, offset + 1, length)
    entry = int.from_bytes(table.pack()[:8], "big")
    assert entry & (COMPRESSED | COPIED) == COMPRESSED
    found, most = compressed_place(entry, bits)
    assert found == offset + 1
    assert length <= most < length + 512
    assert (found + most) % 512 == 0


def test_clusters_that_are_packed_already_are_told() -> None:
    table = table_of(compressed_entry(700, 1, 9), 512 | COPIED, compressed_entry(1000, 0, 9))
    assert table.places.tolist() == [1]
    assert table.packed_places.tolist() == [0, 2]
    assert table.packed_offsets.tolist() == [700, 1000]
    assert table.packed_lengths.tolist() == [1536 - 700, 24]
    table.put_packed(0, 5000, 100)
    assert kinds(table.pack(), SMALL, 3) == [Kind.COMPRESSED, Kind.UNALLOCATED, Kind.UNALLOCATED]


def test_a_table_of_nothing_is_left_out() -> None:
    assert table_of(512 | COPIED, 0).pack() == b""
    assert table_of(512 | COPIED, 0, delta=True).pack() != b""


def test_a_packed_cluster_holds_all_subclusters_and_its_bitmap_none() -> None:
    table = table_of(*extended(ALL, SOME | REST << 32), geometry=LARGE, delta=True)
    assert table.packable.tolist() == [True, True]
    table.put_packed(0, 100, 100)
    table.put_packed(1, 300, 100)
    assert table.pack()[8:16] == table.pack()[24:32] == bytes(8)
    assert set(kinds(table.pack(), LARGE, 2 * SUBCLUSTERS)) == {Kind.COMPRESSED}


def test_where_subclusters_lie_is_where_the_cluster_lies() -> None:
    table = table_of(*extended(REST, ALL), geometry=LARGE)
    assert table.offsets.tolist() == [1 << 16, 2 << 16]


def test_a_plain_cluster_keeps_its_subclusters() -> None:
    table = table_of(*extended(SOME | REST << 32), geometry=LARGE, delta=True)
    table.put_plain(0, 9 << 16)
    assert table.pack()[:16] == words(9 << 16 | COPIED, SOME | REST << 32)


def test_what_a_base_shows_through_is_not_packed() -> None:
    """In a full image nothing shows through: what is not there is zeros."""
    for delta in (True, False):
        table = table_of(*extended(SOME, ALL & ~1), geometry=LARGE, delta=delta)
        assert table.packable.tolist() == [not delta, not delta]


def test_zeros_are_of_the_subclusters_that_were_held() -> None:
    bitmap = SOME | 1 << 40
    assert table_of(*extended(bitmap), geometry=LARGE).pack()[:8] == words(0)
    found = kinds(table_of(*extended(bitmap), geometry=LARGE, delta=True).pack(), LARGE, SUBCLUSTERS)
    assert found == [Kind.ZERO] * 9 + [Kind.UNALLOCATED] * 23


@pytest.mark.parametrize(("subclusters", "packable"), [(7, False), (8, True), (9, True)])
def test_subclusters_beyond_the_end_of_the_disk_do_not_count(subclusters: int, packable: bool) -> None:
    geometry = Geometry(16, 65536 + 8 * 2048 - 512, extended_l2=True)
    table = table_of(*extended(ALL, (1 << subclusters) - 1), geometry=geometry, delta=True)
    assert table.packable.tolist() == [True, packable]


def test_the_end_of_the_disk_is_in_the_last_table_alone() -> None:
    """A table of clusters of 16 KiB maps 1024 of them."""
    geometry = Geometry(14, 1024 * 16384 + 12 * 512, extended_l2=True)
    bitmap = (1 << 12) - 1
    tables = [table_of(*extended(bitmap), geometry=geometry, index=index, delta=True) for index in (0, 1)]
    assert [table.packable.tolist() for table in tables] == [[False], [True]]
