"""L1 and L2 entries against a model that reads one entry after the other, as the specification tells it."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import qcow2
from tests.support.qcow2 import COMPRESSED, COPIED, OFFSETS, ZERO, compressed_place
from vdifs.errors import FormatError
from vdifs.extents import MapKind
from vdifs.formats.qcow2.entries import (
    Runs,
    compressed_cluster,
    data_ranges,
    decode_extended_l2,
    decode_l1,
    decode_l2,
    encode_extended_l2,
    encode_tables,
    packed_ranges,
)
from vdifs.formats.qcow2.geometry import Geometry

Unit = tuple[MapKind, int]  # of one cluster or subcluster: kind, and host offset (DATA) or L2 entry (COMPRESSED)

RESERVED = [1 << 1, 1 << 5, 1 << 8, 1 << 57, 1 << 61]
CLUSTER_BITS = st.integers(9, 21)
HAVE_OFFSETS = {MapKind.DATA, MapKind.ZERO_ALLOC, MapKind.UNALLOCATED_ALLOC}
PLAIN = {MapKind.ZERO_ALLOC: MapKind.ZERO, MapKind.UNALLOCATED_ALLOC: MapKind.UNALLOCATED}


def geometry(cluster_bits: int, *, extended_l2: bool = False) -> Geometry:
    return Geometry(cluster_bits, 1 << 40, extended_l2)


def units_of(runs: Runs, count: int, grain: int) -> list[Unit]:
    """Return what `runs` say, unit by unit."""
    first, kinds, hosts = runs.first.tolist(), runs.kind.tolist(), runs.host.tolist()
    found: list[Unit] = []
    for (low, high), kind, host in zip(pairwise([*first, count]), kinds, hosts, strict=True):
        step = grain if kind in HAVE_OFFSETS else 0
        found += [(MapKind(kind), host + step * index) for index in range(high - low)]
    return found


def cluster_offset(entry: int) -> int:
    """Return bits 9 to 55."""
    return entry & OFFSETS


def plain(unit: Unit) -> Unit:
    """Return what is read: without the places that hold nothing."""
    return (PLAIN[unit[0]], 0) if unit[0] in PLAIN else unit


def standard_unit(entry: int, cluster_bits: int, version: int, data_file: bool) -> Unit | None:
    """Read one standard L2 entry, in detail; None where QEMU calls it damaged."""
    offset = cluster_offset(entry)
    if entry & COMPRESSED:
        return MapKind.COMPRESSED, entry & (COMPRESSED - 1)
    if offset % (1 << cluster_bits):
        return None
    present = offset or (data_file and entry & COPIED)
    if entry & ZERO:
        return ((MapKind.ZERO_ALLOC, offset) if offset else (MapKind.ZERO, 0)) if version >= 3 else None
    return (MapKind.DATA, offset) if present else (MapKind.UNALLOCATED, 0)


def extended_units(entry: int, bitmap: int, cluster_bits: int, data_file: bool) -> list[Unit] | None:
    """Read one extended L2 entry, subcluster by subcluster, in detail; None where QEMU calls it damaged."""
    offset = cluster_offset(entry)
    if entry & COMPRESSED:
        return [(MapKind.COMPRESSED, entry & (COMPRESSED - 1))] * 32
    if offset % (1 << cluster_bits):
        return None
    present = offset != 0 or bool(data_file and entry & COPIED)
    units: list[Unit] = []
    for index in range(32):
        allocated, zero = bool(bitmap >> index & 1), bool(bitmap >> 32 + index & 1)
        if allocated and (zero or not present):
            return None
        if present:
            kind = MapKind.ZERO_ALLOC if zero else MapKind.DATA if allocated else MapKind.UNALLOCATED_ALLOC
            units.append((kind, offset + index * ((1 << cluster_bits) // 32)))
        else:
            units.append((MapKind.ZERO if zero else MapKind.UNALLOCATED, 0))
    return units


def flags(*bits: int) -> st.SearchStrategy[int]:
    return st.sets(st.sampled_from(bits)).map(sum)


@st.composite
def standard_entries(draw: st.DrawFn, cluster_bits: int, *, damaged: bool) -> int:
    """Draw an entry; neighbours are often in neighbouring clusters. damaged: also with an unaligned offset."""
    kind = draw(st.sampled_from(["nothing", "data", "zero", "compressed", "any"]))
    if kind == "nothing":
        return draw(flags(COPIED, ZERO, *RESERVED))
    if kind == "compressed":
        return COMPRESSED | draw(st.integers(0, COMPRESSED - 1))
    if kind == "any" and damaged:
        return draw(st.integers(0, (1 << 64) - 1))
    offset = draw(st.one_of(st.integers(1, 4), st.integers(1, ((1 << 56) - 1) >> cluster_bits))) << cluster_bits
    return offset | draw(flags(COPIED, *RESERVED)) | (ZERO if kind == "zero" else 0)


@st.composite
def bitmaps(draw: st.DrawFn, *, damaged: bool) -> int:
    word = st.one_of(st.sampled_from([0, 0xFFFF_FFFF, 0xFFFF, 1, 1 << 31]), st.integers(0, 0xFFFF_FFFF))
    low, high = draw(word), draw(word)
    return (high if damaged else high & ~low) << 32 | low


@given(CLUSTER_BITS, st.sampled_from([2, 3]), st.booleans(), st.booleans(), st.data())
def test_standard_entries_mean_what_the_specification_says(
    bits: int, version: int, data_file: bool, damaged: bool, data: st.DataObject
) -> None:
    entries = data.draw(st.lists(standard_entries(bits, damaged=damaged), min_size=1, max_size=24))
    wanted = [standard_unit(entry, bits, version, data_file) for entry in entries]
    table = np.array(entries, np.uint64)
    if None in wanted:
        with pytest.raises(FormatError):
            decode_l2(table, geometry(bits), version, data_file=data_file)
        return
    runs = decode_l2(table, geometry(bits), version, data_file=data_file)
    details = decode_l2(table, geometry(bits), version, data_file=data_file, detailed=True)
    assert units_of(details, len(entries), 1 << bits) == wanted
    assert units_of(runs, len(entries), 1 << bits) == [plain(unit) for unit in wanted if unit]
    assert_merged(runs, 1 << bits)
    assert table.tolist() == entries, "decoding changed the table"


@given(CLUSTER_BITS, st.booleans(), st.booleans(), st.data())
def test_entries_that_go_on_mean_what_each_means_alone(
    bits: int, data_file: bool, detailed: bool, data: st.DataObject
) -> None:
    """Runs of entries one cluster apart, from anywhere: 0, the last offset there is, packed ones; and equal entries."""
    size, entries = 1 << bits, list[int]()
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.sampled_from([0, size, 5 * size, (1 << 56) - 2 * size, (1 << 62) - 2 * size]))
        flags = data.draw(st.sampled_from([0, ZERO, COPIED, COPIED | ZERO, COMPRESSED, 1 << 57]))
        step = data.draw(st.sampled_from([0, size, 2 * size]))
        entries += [((start | flags) + step * at) % (1 << 64) for at in range(data.draw(st.integers(1, 6)))]
    expected = [standard_unit(entry, bits, 3, data_file) for entry in entries]
    table = np.array(entries, np.uint64)
    runs = decode_l2(table, geometry(bits), 3, data_file=data_file, detailed=detailed)
    units = [unit for unit in expected if unit is not None]
    assert len(units) == len(entries)
    assert units_of(runs, len(entries), size) == (units if detailed else [plain(unit) for unit in units])
    assert_merged(runs, size)


@given(st.integers(14, 21), st.booleans(), st.booleans(), st.data())
def test_extended_entries_mean_what_the_specification_says(
    bits: int, data_file: bool, damaged: bool, data: st.DataObject
) -> None:
    pair = st.tuples(standard_entries(bits, damaged=damaged), bitmaps(damaged=damaged))
    pairs = data.draw(st.lists(pair, min_size=1, max_size=6))
    if not damaged:
        pairs = [(e, b if cluster_offset(e) else b & ~0xFFFF_FFFF) for e, b in pairs]
    read = [extended_units(entry, bitmap, bits, data_file) for entry, bitmap in pairs]
    table = np.array(pairs, np.uint64).reshape(-1)
    shape = geometry(bits, extended_l2=True)
    if None in read:
        with pytest.raises(FormatError):
            decode_extended_l2(table, shape, data_file=data_file)
        return
    wanted = [unit for units in read if units for unit in units]
    runs = decode_extended_l2(table, shape, data_file=data_file)
    details = decode_extended_l2(table, shape, data_file=data_file, detailed=True)
    assert units_of(details, 32 * len(pairs), shape.grain) == wanted
    assert units_of(runs, 32 * len(pairs), shape.grain) == [plain(unit) for unit in wanted]
    assert_merged(runs, shape.grain)


def assert_merged(runs: Runs, grain: int) -> None:
    """There are no two neighbours that could be one."""
    assert [column.dtype for column in (runs.first, runs.kind, runs.host)] == [np.int64, np.uint8, np.int64]
    rows = list(zip(runs.first.tolist(), runs.kind.tolist(), runs.host.tolist(), strict=True))
    assert rows[0][0] == 0
    for (first, kind, host), (next_first, next_kind, next_host) in pairwise(rows):
        assert first < next_first
        continued = host + (next_first - first) * grain if kind in HAVE_OFFSETS else host
        assert (kind, continued) != (next_kind, next_host)


@given(CLUSTER_BITS, st.integers(0, (1 << 62) - 1))
def test_a_compressed_descriptor_is_read_as_the_text_says(bits: int, entry: int) -> None:
    place = compressed_cluster(entry, bits)
    assert (place.offset, place.length) == compressed_place(entry, bits)
    assert 1 <= place.length <= 2 << bits


@given(CLUSTER_BITS, st.booleans(), st.lists(st.integers(0, (1 << 64) - 1), max_size=16))
def test_the_places_of_a_table_are_those_of_its_entries(bits: int, extended: bool, entries: list[int]) -> None:
    words = [word for entry in entries for word in ((entry, 0xFFFF) if extended else (entry,))]
    table, geometry = np.array(words, np.uint64), Geometry(bits, 1 << 40, extended)
    plain = [cluster_offset(entry) for entry in entries if not entry & COMPRESSED and cluster_offset(entry)]
    packed = [compressed_cluster(entry & (COMPRESSED - 1), bits) for entry in entries if entry & COMPRESSED]
    assert data_ranges(table, geometry).tolist() == [[at, at + (1 << bits)] for at in plain]
    assert packed_ranges(table, geometry).tolist() == [[each.offset, each.offset + each.length] for each in packed]


@given(CLUSTER_BITS, st.lists(st.integers(0, (1 << 64) - 1), max_size=16))
def test_l1_entries_are_offsets_of_bits_9_to_55_or_an_error(bits: int, entries: list[int]) -> None:
    table = qcow2.words(*entries)
    wanted = [cluster_offset(entry) for entry in entries]
    if any(offset % (1 << bits) for offset in wanted):
        with pytest.raises(FormatError, match=r"L1 entry \d+ points to 0x"):
            decode_l1(table, 1 << bits)
    else:
        assert decode_l1(table, 1 << bits).tolist() == wanted


@given(st.lists(st.tuples(st.integers(0, 1 << 46), st.booleans()), max_size=16))
def test_encoded_entries_are_copied_offsets_and_zero_marks(clusters: list[tuple[int, bool]]) -> None:
    offsets = np.array([index * 512 for index, _ in clusters], np.int64)
    zero = np.array([mark for _, mark in clusters], np.bool_)
    packed = encode_tables(offsets, zero)
    entries = struct.unpack(f">{len(clusters)}Q", packed)
    for entry, offset, mark in zip(entries, offsets.tolist(), zero.tolist(), strict=True):
        assert entry == (offset | COPIED if offset else 0) | (ZERO if mark else 0)


@given(CLUSTER_BITS, st.lists(st.one_of(st.none(), st.integers(0, 1 << 30)), min_size=1, max_size=16))
def test_decoding_gives_back_what_was_encoded(bits: int, places: list[int | None]) -> None:
    """None: a zero cluster; 0: nothing; otherwise the index of a cluster of the file."""
    offsets = np.array([(place or 0) << bits for place in places], np.int64)
    zero = np.array([place is None for place in places], np.bool_)
    table = np.frombuffer(encode_tables(offsets, zero), ">u8").astype(np.uint64)
    units = units_of(decode_l2(table, geometry(bits), 3), len(places), 1 << bits)
    for place, unit in zip(places, units, strict=True):
        if place is None:
            assert unit == (MapKind.ZERO, 0)
        else:
            assert unit == ((MapKind.DATA, place << bits) if place else (MapKind.UNALLOCATED, 0))


bit_rows = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)))


@given(st.integers(14, 21), bit_rows.filter(bool))
def test_decoding_gives_back_the_subclusters_that_were_encoded(bits: int, drawn: list[tuple[int, int, int]]) -> None:
    """Of each cluster: its place (0: not stored), its subclusters with data and those with zeros."""
    clusters = [(place, low if place else 0, high & ~low if place else high) for place, low, high in drawn]
    shape = geometry(bits, extended_l2=True)
    offsets = np.array([place << bits for place, _, _ in clusters], np.int64)
    data, zero = (np.array([[row[n] >> bit & 1 for bit in range(32)] for row in clusters], np.bool_) for n in (1, 2))
    table = np.frombuffer(encode_extended_l2(offsets, data, zero), ">u8").astype(np.uint64)
    pairs = [((place << bits) | COPIED if place else 0, high << 32 | low) for place, low, high in clusters]
    assert table.reshape(-1, 2).tolist() == [list(pair) for pair in pairs]
    read = [extended_units(*pair, bits, False) for pair in pairs]
    wanted = [unit for units in read if units for unit in units]
    assert units_of(decode_extended_l2(table, shape, detailed=True), 32 * len(clusters), shape.grain) == wanted


@pytest.mark.parametrize("version", [2, 3])
def test_bit_0_of_a_compressed_entry_is_part_of_its_offset(version: int) -> None:
    entry = COMPRESSED | 0x50001
    runs = decode_l2(np.array([entry], np.uint64), geometry(16), version)
    assert units_of(runs, 1, 1 << 16) == [(MapKind.COMPRESSED, 0x50001)]


def test_an_error_names_the_entry_and_its_offset() -> None:
    table = np.array([0, COPIED | 0x10200], np.uint64)
    with pytest.raises(FormatError, match=r"L2 entry 1 of the range points to 0x10200, no multiple of .* 0x10000"):
        decode_l2(table, geometry(16), 3)
