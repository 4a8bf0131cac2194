"""What opening a VDI costs: it follows what is in the file, not how large its disk is, or how much its map claims."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.agreement import format_error
from tests.support.cost import counted_reads
from tests.support.hand_made_chain import chain_of, read
from tests.support.vdi import FREE, MIB, SECTOR, ZERO, Vdi, header, name
from vdifs.extents import Kind
from vdifs.formats.vdi import block_map
from vdifs.formats.vdi import layer as vdi_layer
from vdifs.formats.vdi.block_map import BlockMap
from vdifs.formats.vdi.format import VDI
from vdifs.formats.vdi.metadata import VdiMetadata

KIB, GIB = 1 << 10, 1 << 30
MOST_ENTRIES = 16 << 20


def mapped(path: Path, entries: NDArray[np.uint32], block_size: int = MIB, *, child: bool = False) -> Path:
    """Write an image with that map, as long as its blocks want it, and a sector of data in each of the first few."""
    data_offset = -(-(SECTOR + entries.nbytes) // MIB) * MIB
    data = entries[entries < ZERO]
    places = int(data.max(initial=0)) + 1 if len(data) else 0
    parent = {"image_type": 4, "parent_uuid": name(9).uuid.bytes_le} if child else {}
    size, blocks = len(entries) * block_size, len(entries)
    with path.open("wb") as file:
        head = header(disk_size=size, blocks=blocks, block_size=block_size, data_offset=data_offset, **parent)
        file.write(head)
        file.seek(SECTOR)
        file.write(entries.astype("<u4").tobytes())
        file.truncate(data_offset + places * block_size)
        for entry in data[:8].tolist():
            file.seek(data_offset + entry * block_size)
            file.write(b"\1" * SECTOR)
    return path


def free(count: int) -> NDArray[np.uint32]:
    return np.full(count, FREE, np.uint32)


def test_a_disk_of_two_tebibytes_is_opened_with_one_look_at_its_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = free(2 << 20)
    entries[[0, 1_000_000, -1]] = 0, 2, 1
    path = mapped(tmp_path / "x.vdi", entries)
    with counted_reads(monkeypatch) as lengths, chain_of(VDI, path) as chain:
        assert sum(lengths) < 8 * MIB + 64 * KIB
        assert len(lengths) < 16
        parts = list(chain.in_parts())
        assert sum(int(np.count_nonzero(part.kind == Kind.DATA)) for part in parts) == 3
        assert sum(lengths) < 10 * MIB
        assert chain.members[0].layer.nbytes < 4 * KIB


def entries_of(kind: str) -> NDArray[np.uint32]:
    numbers = np.arange(MOST_ENTRIES, dtype=np.uint32)
    match kind:
        case "free":
            return free(MOST_ENTRIES)
        case "zero":
            return np.full(MOST_ENTRIES, ZERO, np.uint32)
        case "scattered":
            return np.where(numbers % 2, numbers[::-1] // 2, np.uint32(FREE))
        case _:
            return numbers


@pytest.mark.parametrize("kind", ["free", "zero", "static", "scattered"])
@pytest.mark.parametrize("child", [False, True])
def test_a_map_of_64_mib_is_the_largest_and_takes_no_more_memory_than_that(
    tmp_path: Path, kind: str, child: bool
) -> None:
    entries = entries_of(kind)
    size = MOST_ENTRIES * 128 * KIB
    path = mapped(tmp_path / "x.vdi", entries, 128 * KIB, child=child)
    del entries
    tracemalloc.start()
    with read(VDI, path) as (file, metadata):
        layer = metadata.layer(file, [file], None)
        peak = tracemalloc.get_traced_memory()[1]
        assert layer.nbytes < 12 * MIB
        absent = Kind.UNALLOCATED if child else Kind.ZERO
        first = {"free": absent, "zero": Kind.ZERO, "static": Kind.DATA, "scattered": absent}[kind]
        assert layer.extents(0, 128 * KIB).kind.tolist()[0] == first
        last = layer.extents(size - SECTOR, size)
        assert len(last) == 1
    tracemalloc.stop()
    assert peak < 96 * MIB, "the map once, to find what it has twice, and little besides"


def test_a_map_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.vdi"
    path.write_bytes(header(disk_size=MIB, blocks=MOST_ENTRIES + 1, data_offset=128 * MIB))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with (
        counted_reads(monkeypatch) as lengths,
        format_error("its block map has 16777217 entries, expected at most 16777216"),
        chain_of(VDI, path),
    ):
        pass
    assert sum(lengths) <= 4096


def test_more_entries_than_blocks_in_the_file_are_refused_before_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.vdi"
    data_offset = 65 * MIB
    path.write_bytes(header(disk_size=MOST_ENTRIES * MIB, blocks=MOST_ENTRIES, data_offset=data_offset))
    with path.open("r+b") as file:
        file.truncate(data_offset + 100 * MIB)  # a map of zeros, which is a hole
    with counted_reads(monkeypatch) as lengths, format_error("more entries in use than blocks"), chain_of(VDI, path):
        pass
    assert sum(lengths) < 2 * MIB


def test_what_is_kept_of_a_scattered_map_is_bounded_and_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = free(4000)
    used = np.array([0, 7, 8, 9, 1000, 1003, 2500, 2501, 3998])
    entries[used] = np.arange(len(used))[::-1]
    path = mapped(tmp_path / "x.vdi", entries, 128 * KIB)
    with read(VDI, path) as (file, metadata):
        assert isinstance(metadata, VdiMetadata)
        fine = BlockMap(file, metadata.header).populated
        monkeypatch.setattr(block_map, "_MOST_UNITS_BITS", 7)
        coarse = BlockMap(file, metadata.header).populated
    assert fine.rows.tolist() == [[0, 1], [7, 10], [1000, 1001], [1003, 1004], [2500, 2502], [3998, 3999]]
    assert coarse.rows.tolist() == [[0, 32], [992, 1024], [2496, 2528], [3968, 4000]]


@given(
    drawn=st.lists(st.sampled_from(["free", "zero", "data"]), min_size=1, max_size=40),
    at_once=st.integers(1, 9),
    child=st.booleans(),
)
def test_how_many_entries_are_looked_at_together_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[str], at_once: int, child: bool
) -> None:
    numbers = iter(range(len(drawn)))
    meant = {"free": lambda: FREE, "zero": lambda: ZERO, "data": lambda: next(numbers)}
    entries = np.array([meant[each]() for each in drawn], np.uint32)
    path = mapped(tmp_path_factory.mktemp("x") / "x.vdi", entries, 128 * KIB, child=child)
    size = len(drawn) * 128 * KIB
    absent = Kind.UNALLOCATED if child else Kind.ZERO
    with pytest.MonkeyPatch.context() as patch, read(VDI, path) as (file, metadata):
        patch.setattr(block_map, "_AT_ONCE", 1 << at_once % 4)
        patch.setattr(vdi_layer, "_BLOCKS_AT_ONCE", at_once)
        layer = metadata.layer(file, [file], None)
        found = layer.extents(0, size)
        for index, each in enumerate(drawn):
            at = index * 128 * KIB
            row = int(found.start.searchsorted(at, "right")) - 1
            wanted = {"free": absent, "zero": Kind.ZERO, "data": Kind.DATA}[each]
            first_only = each == "data" and int(entries[index]) >= 8  # no data were written to it
            assert found.kind[row] == (Kind.ZERO if first_only else wanted)
            part = layer.extents(at + SECTOR, at + 2 * SECTOR)
            assert (int(part.start[0]), part.end) == (at + SECTOR, at + 2 * SECTOR)
        assert layer.extents(SECTOR, size).merged().kind.tolist() == layer.extents(SECTOR, size).kind.tolist()


@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("first", range(5))
def test_two_entries_that_are_the_same_are_found_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, first: int
) -> None:
    entries = np.arange(6, dtype=np.uint32)
    entries[5] = first
    path = mapped(tmp_path / "x.vdi", entries, 128 * KIB)
    monkeypatch.setattr(block_map, "_AT_ONCE", at_once)
    with (
        format_error(rf"its blocks {first} and 5 lie at the same place, {first} in its block map"),
        chain_of(VDI, path),
    ):
        pass


def test_entries_that_changed_since_they_were_looked_at_are_checked_again(tmp_path: Path) -> None:
    made = Vdi(3 * MIB)
    made.put(0, b"\1" * 3 * MIB)
    path = made.write(tmp_path / "x.vdi")
    with read(VDI, path) as (file, metadata):
        layer = metadata.layer(file, [file], None)
        with path.open("r+b") as other:
            other.seek(made.map_offset + 4)
            other.write((77).to_bytes(4, "little"))
        with format_error("block 1 at 0x4d00400 would end at 0x4e00400, beyond the end of the file"):
            layer.extents(0, 3 * MIB)
