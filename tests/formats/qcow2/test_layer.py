"""One qcow2 file: its tables against a model that looks up one unit after the other, and what is beyond the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builder import Tables
from tests.support.qcow2 import COMPRESSED, COPIED, OFFSETS, ZERO
from tests.support.stated import rows
from vdifs.errors import FormatError
from vdifs.extents import NO_FILE, Kind
from vdifs.formats.qcow2 import layer as qcow2_layer
from vdifs.formats.qcow2.header import Header
from vdifs.formats.qcow2.layer import L1Place, Qcow2Layer
from vdifs.storage.host_file import HostFile

Unit = tuple[Kind, int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


@contextmanager
def opened(path: Path, tables: Tables) -> Iterator[Qcow2Layer]:
    header = Header.parse(tables.header())
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    try:
        place = L1Place(header.l1_table_offset, header.l1_size, header.virtual_size)
        yield Qcow2Layer(file, file, header, place)
    finally:
        file.close()


@st.composite
def standard_tables(draw: st.DrawFn) -> Tables:
    """Draw an image of small clusters whose disk spans several L2 tables."""
    bits = draw(st.integers(9, 11))
    table_coverage = (1 << bits) // 8 << bits
    size = draw(st.integers(0, 5 * table_coverage // 512)) * 512
    shape = Tables(bits, size, {})
    clusters = draw(st.sets(st.integers(0, shape.clusters - 1), max_size=20)) if shape.clusters else set()
    near = {cluster + 1 for cluster in clusters if cluster + 1 < shape.clusters}
    shape = Tables(bits, size, dict.fromkeys(clusters | near, 0))
    entries = {cluster: draw(standard_words(shape.first_data, bits)) for cluster in sorted(shape.entries)}
    return Tables(bits, size, entries)


@st.composite
def standard_words(draw: st.DrawFn, first_data: int, bits: int) -> int:
    kind = draw(st.sampled_from(["nothing", "zero", "zero with a place", "data", "data", "data", "compressed"]))
    place = first_data + (draw(st.integers(0, 7)) << bits)
    return {
        "nothing": draw(st.sampled_from([0, COPIED])),
        "zero": ZERO,
        "zero with a place": place | COPIED | ZERO,
        "data": place | draw(st.sampled_from([0, COPIED])),
        "compressed": COMPRESSED | place + draw(st.integers(0, 1000)),
    }[kind]


def model_of(tables: Tables) -> list[Unit]:
    """Return kind and host offset, or entry, of each 512 bytes of the disk."""
    found: list[Unit] = []
    for at in range(0, tables.size, 512):
        cluster, within = divmod(at, tables.cluster_size)
        entry = tables.entries.get(cluster, 0)
        bitmap = None if tables.bitmaps is None else tables.bitmaps.get(cluster, 0)
        found.append(unit_of(entry, bitmap, within, tables.cluster_size))
    return found


def unit_of(entry: int, bitmap: int | None, within: int, cluster_size: int) -> Unit:
    place = entry & OFFSETS
    if entry & COMPRESSED:
        return Kind.COMPRESSED, entry & (COMPRESSED - 1)
    if bitmap is None:
        allocated, zero = place != 0, bool(entry & ZERO)
    else:
        subcluster = within // (cluster_size // 32)
        allocated, zero = bool(bitmap >> subcluster & 1), bool(bitmap >> 32 + subcluster & 1)
    if zero:
        return Kind.ZERO, 0
    return (Kind.DATA, place + within) if allocated else (Kind.UNALLOCATED, 0)


def units_of(layer: Qcow2Layer, start: int, end: int) -> list[Unit]:
    found: list[Unit] = []
    for low, high, kind, number, host in rows(layer.extents(start, end)):
        assert number == (NO_FILE if kind == Kind.UNALLOCATED else 0)
        found += [(kind, host + at if kind == Kind.DATA else host) for at in range(0, high - low, 512)]
    return found


@given(tables=standard_tables(), data=st.data())
def test_a_layer_holds_what_its_tables_say(folder: Path, tables: Tables, data: st.DataObject) -> None:
    tables.write(folder / "image")
    with opened(folder / "image", tables) as layer:
        assert layer.virtual_size == tables.size
        if not tables.size:
            return
        wanted = model_of(tables)
        assert units_of(layer, 0, tables.size) == wanted
        low = data.draw(st.integers(0, len(wanted) - 1))
        high = data.draw(st.integers(low + 1, len(wanted)))
        assert units_of(layer, low * 512, high * 512) == wanted[low:high]


@given(tables=standard_tables())
def test_outside_of_the_populated_ranges_nothing_is_allocated(folder: Path, tables: Tables) -> None:
    tables.write(folder / "image")
    with opened(folder / "image", tables) as layer:
        ranges = layer.populated().tolist()
    for index, (kind, _) in enumerate(model_of(tables)):
        at = index * 512
        assert kind == Kind.UNALLOCATED or any(low <= at < high for low, high in ranges)
    edges = [edge for pair in ranges for edge in pair]
    assert edges == sorted(set(edges))
    assert not edges or edges[-1] <= tables.size


@given(data=st.data())
def test_a_layer_with_subclusters_holds_what_its_bitmaps_say(folder: Path, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 5 * 32)) * 512
    shape = Tables(14, size, {}, {})
    clusters = range(shape.clusters)
    held = data.draw(st.sets(st.sampled_from(clusters))) if clusters else set()
    first = Tables(14, size, dict.fromkeys(held, 0), {}).first_data
    words = st.tuples(st.integers(0, 7), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
    drawn = {cluster: data.draw(words) for cluster in sorted(held)}
    entries = {cluster: first + (place << 14) | COPIED for cluster, (place, _, _) in drawn.items()}
    bitmaps = {cluster: low | (high & ~low) << 32 for cluster, (_, low, high) in drawn.items()}
    tables = Tables(14, size, entries, bitmaps)
    tables.write(folder / "image")
    with opened(folder / "image", tables) as layer:
        assert units_of(layer, 0, size) == model_of(tables)


@pytest.mark.parametrize("at_once", [1, 64, 100_000])
def test_how_many_entries_are_decoded_at_once_does_not_matter(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    shape = Tables(9, 1 << 18, dict.fromkeys(range(0, 512, 3), 0))
    tables = Tables(9, 1 << 18, {c: shape.first_data + (c % 8 << 9) for c in shape.entries})
    tables.write(folder / "image")
    monkeypatch.setattr(qcow2_layer, "_ENTRIES_AT_ONCE", at_once)
    with opened(folder / "image", tables) as layer:
        assert units_of(layer, 0, tables.size) == model_of(tables)


def test_a_last_cluster_that_ends_early_is_data_and_then_zeros(folder: Path) -> None:
    shape = Tables(9, 4096, {0: 0})
    tables = Tables(9, 4096, {0: shape.first_data | COPIED}, data_clusters=1)
    tables.write(folder / "image")
    os.truncate(folder / "image", shape.first_data + 1)
    with opened(folder / "image", tables) as layer:
        found = [(start, stop, kind) for start, stop, kind, _, _ in rows(layer.extents(0, 512))]
    assert found == [(0, 1, Kind.DATA), (1, 512, Kind.ZERO)]


def test_data_beyond_the_end_of_the_file_are_refused_with_their_place(folder: Path) -> None:
    shape = Tables(9, 4096, {2: 0})
    tables = Tables(9, 4096, {2: shape.first_data + 512 | COPIED}, data_clusters=1)
    tables.write(folder / "image")
    with (
        opened(folder / "image", tables) as layer,
        pytest.raises(FormatError, match=r"data of guest offset 0x400 lie at 0xa00, beyond the end of the file at 0xa"),
    ):
        layer.extents(0, 4096)


@pytest.mark.parametrize("extra", [0, 1])
def test_data_and_compressed_clusters_in_one_run_of_clusters_stay_apart(folder: Path, extra: int) -> None:
    shape = Tables(9, 4096, {0: 0, 1: 0})
    tables = Tables(9, 4096, {0: shape.first_data, 1: COMPRESSED | shape.first_data + extra})
    tables.write(folder / "image")
    with opened(folder / "image", tables) as layer:
        kinds = [kind for _, _, kind, _, _ in rows(layer.extents(0, 1024))]
    assert kinds == [Kind.DATA, Kind.COMPRESSED]
