"""What opening a VHD costs: it follows what is in the file, not how large its disk is, or how much its table claims."""

import os
import tracemalloc
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.age import grow_old
from tests.support.agreement import format_error
from tests.support.cost import counted_reads
from tests.support.hand_made_chain import chain_of
from tests.support.vhd import SECTOR, Vhd
from vdifs.extents import Kind
from vdifs.formats.vhd import blocks as vhd_blocks
from vdifs.formats.vhd import layer as vhd_layer
from vdifs.formats.vhd.bitmaps import bitmap_runs
from vdifs.formats.vhd.format import VHD

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def sparse(path: Path, size: int, block_size: int, blocks: dict[int, int]) -> Path:
    """Write an image whose table is mostly of FF; blocks: for each its place among those in the file."""
    made = Vhd(1, block_size, footer_fields={"current_size": size})
    made.header_fields = {"bat_entries": -(-size // block_size)}
    space = made.bitmap_space + block_size
    table = np.full(-(-size // block_size), 0xFFFFFFFF, ">u4")
    first = 1536 + -(-table.nbytes // SECTOR) * SECTOR
    for number, place in blocks.items():
        table[number] = (first + place * space) // SECTOR
    with path.open("wb") as file:
        file.write(made.footer() + made.header() + table.tobytes())
        file.truncate(first + len(blocks) * space)
        for place in blocks.values():
            file.seek(first + place * space)
            file.write(b"\x80")
            file.seek(first + place * space + made.bitmap_space)
            file.write(b"\1" * SECTOR)
        file.seek(first + len(blocks) * space)
        file.write(made.footer())
    return path


def test_a_disk_of_two_tebibytes_is_opened_with_one_look_at_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2040 * GIB
    path = sparse(tmp_path / "x.vhd", size, 2 * MIB, {0: 0, 500_000: 2, size // (2 * MIB) - 1: 1})
    with counted_reads(monkeypatch) as lengths, chain_of(VHD, path) as chain:
        assert sum(lengths) < 4 * MIB + 64 * KIB
        assert len(lengths) < 32
        parts = list(chain.in_parts())
        assert [int(np.count_nonzero(part.kind == Kind.DATA)) for part in parts] == [3]
        assert len(lengths) < 32 + 8
        assert chain.members[0].layer.nbytes < 4 * KIB


def test_a_table_of_64_mib_is_the_largest_and_takes_no_memory_where_it_is_empty(tmp_path: Path) -> None:
    size = (16 << 20) * 4 * KIB
    path = sparse(tmp_path / "x.vhd", size, 4 * KIB, {16_777_215: 0})
    tracemalloc.start()
    with chain_of(VHD, path) as chain:
        assert chain.extents(size - 4 * KIB, size).kind.tolist() == [Kind.DATA, Kind.ZERO]
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()
    beyond = Vhd(1, 4 * KIB, footer_fields={"current_size": size + 4 * KIB})
    beyond.header_fields = {"bat_entries": (16 << 20) + 1}
    with (
        format_error("has 16777217 entries, expected at most 16777216"),
        chain_of(VHD, beyond.write(tmp_path / "y.vhd")),
    ):
        pass


def test_more_entries_than_blocks_in_the_file_are_refused_before_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Vhd(1, 4 * KIB, footer_fields={"current_size": 16 * GIB})
    made.header_fields = {"bat_entries": 4 << 20}
    path = made.write(tmp_path / "x.vhd")
    with path.open("r+b") as file:
        file.truncate(1536 + (16 << 20))  # a table of zeros, which is a hole
        file.seek(0, os.SEEK_END)
        file.write(made.footer())
    with counted_reads(monkeypatch) as lengths, format_error("more entries in use than blocks"), chain_of(VHD, path):
        pass
    assert sum(lengths) < 2 * MIB


def test_blocks_whose_bitmaps_lie_in_holes_are_not_kept_or_asked(tmp_path: Path) -> None:
    """A file may claim hundreds of thousands of blocks in one hole."""
    blocks = 200_000
    made = Vhd(1, 4 * KIB, footer_fields={"current_size": blocks * 4 * KIB})
    made.header_fields = {"bat_entries": blocks}
    first = (1536 + blocks * 4 + SECTOR - 1) // SECTOR
    table = (first + 9 * np.arange(blocks)).astype(">u4")
    path = tmp_path / "x.vhd"
    with path.open("wb") as file:
        file.write(made.footer() + made.header() + table.tobytes())
        file.truncate((first + 9 * blocks) * SECTOR)
        file.seek(0, os.SEEK_END)
        file.write(made.footer())
    with chain_of(VHD, path) as chain:
        layer = chain.members[0].layer
        assert layer.load.units < 20
        assert chain.extents(0, chain.virtual_size).kind.tolist() == [Kind.ZERO]


@given(rows=st.integers(1, 4).flatmap(lambda n: st.lists(st.binary(min_size=n, max_size=n), min_size=1, max_size=6)))
def test_runs_are_those_of_the_bits(rows: list[bytes]) -> None:
    starts, present = bitmap_runs(np.array([list(row) for row in rows], np.uint8))
    bits = [byte >> 7 - bit & 1 for row in rows for byte in row for bit in range(8)]
    found = [
        bool(value) for value, count in zip(present, np.diff([*starts, len(bits)]), strict=True) for _ in range(count)
    ]
    assert found == [bool(bit) for bit in bits]
    per_row = len(rows[0]) * 8
    assert set(range(0, len(bits), per_row)) <= set(starts.tolist())
    inner = [at for at in starts.tolist() if at % per_row]
    assert all(bits[at] != bits[at - 1] for at in inner)


@pytest.mark.parametrize("at_once", [1, 8, 100, 5000])
def test_how_many_bitmaps_are_looked_at_together_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    made = Vhd(300 * KIB, 4 * KIB)
    for at in (0, 3, 4, 8, 9, 10, 11, 200, 201, 333, 599):
        made.put(at * SECTOR, b"\1" * SECTOR)
    path = made.write(tmp_path / "x.vhd")
    with chain_of(VHD, path) as chain:
        wanted = chain.extents(0, 300 * KIB)
    monkeypatch.setattr(vhd_layer, "_SECTORS_AT_ONCE", at_once)
    with chain_of(VHD, path) as chain:
        for found in (chain.extents(0, 300 * KIB), chain.extents(0, 300 * KIB)):
            assert found.start.tolist() == wanted.start.tolist()
            assert found.host.tolist() == wanted.host.tolist()
        part = chain.extents(7 * SECTOR, 9 * SECTOR)
        assert part.kind.tolist() == [Kind.ZERO, Kind.DATA]


def entries(path: Path, sectors: dict[int, int]) -> None:
    """Write other entries to the table at 1536."""
    with path.open("r+b") as file:
        for number, sector in sectors.items():
            file.seek(1536 + 4 * number)
            file.write(sector.to_bytes(4, "big"))


def test_millions_of_blocks_take_little_memory_and_all_are_compared(tmp_path: Path) -> None:
    """A disk of 4 GiB in blocks of 4 KiB, of which every one is in the file, in an order that is none."""
    count = 1 << 20
    order = np.random.default_rng(1).permutation(count)
    made = Vhd(1, 4 * KIB, footer_fields={"current_size": count * 4 * KIB})
    made.header_fields = {"bat_entries": count}
    first = (1536 + count * 4) // SECTOR
    with (path := tmp_path / "x.vhd").open("wb") as file:
        file.write(made.footer() + made.header() + (first + 9 * order).astype(">u4").tobytes())
        file.truncate((first + 9 * count) * SECTOR)
        for place in (0, count // 2, count - 1):
            file.seek((first + 9 * place) * SECTOR)
            file.write(b"\xff" * 9 * SECTOR)
        file.seek(0, os.SEEK_END)
        file.write(made.footer())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vhd_blocks, "_SORTED_AT_ONCE", 1 << 18)
        tracemalloc.start()
        with chain_of(VHD, path) as chain:
            assert chain.members[0].layer.nbytes < MIB
            data = sum(int(part.length[part.kind == Kind.DATA].sum()) for part in chain.in_parts())
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
        tracemalloc.stop()
        assert 3 * 4 * KIB <= data <= 3 * 4 * KIB + 6 * 4 * KIB  # a page that a block shares is no hole
        numbers = order.argsort()
        bound = (2 << 20) - first  # where those that are compared together end
        for one, moved in ((0, 8), (bound // 9, bound % 9), (count - 2, 0)):
            number = int(numbers[one + 1])
            entries(path, {number: first + 9 * one + moved})
            pair = " and ".join(map(str, sorted([int(numbers[one]), number])))
            place = (first + 9 * one + moved) * SECTOR
            with format_error(f"its blocks {pair} overlap at {place:#x}"), chain_of(VHD, path):
                pass
            entries(path, {number: first + 9 * (one + 1)})


@given(places=st.lists(st.integers(0, 60), min_size=2, max_size=12), at_once=st.integers(2, 13), bits=st.integers(1, 8))
def test_however_few_are_compared_together_what_overlaps_is_refused(
    tmp_path_factory: pytest.TempPathFactory, places: list[int], at_once: int, bits: int
) -> None:
    """Blocks of 9 sectors; a bucket holds no more that are apart than are compared together."""
    path = tmp_path_factory.mktemp("vhd") / "x.vhd"
    made = Vhd(len(places) * 4 * KIB, 4 * KIB, bat={number: 40 + place for number, place in enumerate(places)})
    made.write(path)
    with path.open("r+b") as file:
        file.truncate(120 * SECTOR)
        file.seek(0, os.SEEK_END)
        file.write(made.footer())
    ordered = sorted(places)
    apart = all(other - one >= 9 for one, other in pairwise(ordered))
    at_once = max(at_once, (1 << bits) // 9 + 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vhd_blocks, "_SORTED_AT_ONCE", at_once)
        patch.setattr(vhd_blocks, "_BUCKET_BITS", bits)
        with nullcontext() if apart else format_error("overlap at|more entries in use"), chain_of(VHD, path):
            pass


def mixed(folder: Path) -> Vhd:
    """Return a disk in which blocks that are whole, in part and not in the file take turns in every way."""
    made = Vhd(64 * 16 * KIB, 16 * KIB, parent=UUID(int=1), uuid=UUID(int=2))
    for number, kind in enumerate(np.random.default_rng(5).integers(0, 3, 64).tolist()):
        if kind:
            made.put(number * 16 * KIB, bytes([number + 1]) * (16 * KIB if kind == 2 else SECTOR * (1 + number % 31)))
    made.write(folder / "x.vhd")
    return made


@pytest.mark.parametrize("bits", [2, 4, 18])
def test_blocks_of_every_kind_are_what_their_bitmaps_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    made = mixed(tmp_path)
    monkeypatch.setattr(vhd_blocks, "_MOST_UNITS_BITS", bits)
    with chain_of(VHD, tmp_path / "x.vhd") as chain:
        found = chain.members[0].layer.extents(0, made.size)
    is_data = np.zeros(made.size // SECTOR, np.bool_)
    for start, stop, kind in zip(found.start.tolist(), found.stop.tolist(), found.kind.tolist(), strict=True):
        is_data[start // SECTOR : stop // SECTOR] = kind == Kind.DATA
    wanted = [sector in made.blocks.get(number, {}) for number in range(64) for sector in range(32)]
    assert is_data.tolist() == wanted


def test_the_bitmap_of_a_block_that_is_whole_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Vhd(4 * 128 * KIB, 128 * KIB)
    for number in (0, 1, 3):
        made.put(number * 128 * KIB, b"\1" * (SECTOR if number == 1 else 128 * KIB))
    made.write(tmp_path / "x.vhd")
    grow_old()
    length = 128 * KIB // 4096
    lengths_of_runs = [128 * KIB, SECTOR, 255 * KIB + SECTOR, 128 * KIB]
    with counted_reads(monkeypatch) as lengths, chain_of(VHD, tmp_path / "x.vhd") as chain:
        assert lengths.count(length) == 3
        for _ in range(2):
            assert chain.extents(0, made.size).length.tolist() == lengths_of_runs
        assert lengths.count(length) == 3 + 2
    with counted_reads(monkeypatch) as lengths, chain_of(VHD, tmp_path / "x.vhd"):
        assert length not in lengths, "nor when it is opened again"
