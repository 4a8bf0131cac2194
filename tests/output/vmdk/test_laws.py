"""The laws of synthetic VMDKs, over chains of stated layers, against a model byte by byte."""

import os
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.output.vmdk.model import GRAIN_SIZE, GRAINS_AT, STORED_SIZE, SUM_AT, file_of, size_of, text_of
from tests.support.frames import framed
from tests.support.stated import GRAIN, KINDS, SECTOR, Run, StatedChain, StatedLayer
from vdifs.chain.flattening import AT_ONCE
from vdifs.errors import UsageError, WouldBlock
from vdifs.extents import Kind
from vdifs.formats.layer import UNLIMITED
from vdifs.formats.load import Load
from vdifs.formats.vmdk.grain_tables import MAX_DIRECTORY
from vdifs.output import granularity
from vdifs.output.frame import Frame
from vdifs.output.image import Image
from vdifs.output.piece_reader import PieceReader
from vdifs.output.process_caches import window_cache
from vdifs.output.protocol import Output, Region, ResolvedSpec
from vdifs.output.vmdk.output import VmdkOutput

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


@st.composite
def layers(draw: st.DrawFn, number: int) -> StatedLayer:
    """Draw a layer of up to 9 grains; runs end anywhere, and most of them are as long as some grains."""
    left = draw(st.integers(0, 9 * 128)) * SECTOR // GRAIN
    runs: list[Run] = []
    while left:
        length = min(draw(st.sampled_from([1, 8, 100, 1024, 1024, 2048, 3000])), left)
        kind = draw(st.sampled_from(KINDS))
        host = (5000 * len(runs) + draw(st.integers(0, 9))) * GRAIN if kind == Kind.DATA else 0
        runs.append((length * GRAIN, kind, host))
        left -= length
    return StatedLayer(tuple(runs), number)


@st.composite
def chains(draw: st.DrawFn) -> StatedChain:
    drawn = [draw(layers(number)) for number in range(draw(st.integers(1, 2)))]
    return StatedChain(tuple(drawn), draw(st.sampled_from([AT_ONCE, 8, 32])))


def output_of(stated: StatedChain) -> VmdkOutput:
    return VmdkOutput(ResolvedSpec(stated.chain, None, 16))


def read(output: Output, offset: int, length: int) -> bytes:
    buffer = bytearray(b"?" * length)
    output.readinto(offset, memoryview(buffer), wait=True)
    return bytes(buffer)


def whole(output: Output) -> bytes:
    return read(output, 0, output.size)


def grains_of(stated: StatedChain) -> dict[int, bytes]:
    """Return the grains that any data touch."""
    kinds, contents, step = stated.kinds(), stated.contents(), GRAIN_SIZE // GRAIN
    return {
        index: contents[index * GRAIN_SIZE : (index + 1) * GRAIN_SIZE]
        for index in range(-(-len(kinds) // step))
        if Kind.DATA in kinds[index * step : (index + 1) * step]
    }


@given(chains())
@settings(max_examples=25)
def test_it_is_the_file_of_the_model(stated: StatedChain) -> None:
    output, grains, sectors = output_of(stated), grains_of(stated), stated.chain.virtual_size // SECTOR
    file = whole(output)
    assert file == file_of(sectors, grains, text_of(file))
    assert output.size == len(file) == size_of(sectors, len(grains), bool(grains))
    assert output.allocated == len(grains) * GRAIN_SIZE
    assert output.size_if_full == size_of(sectors, -(-sectors // 128), -(-sectors // 65_536))


@given(chains(), st.integers(7, 200_000), st.data())
@settings(max_examples=25)
def test_any_range_is_a_slice_of_the_whole(stated: StatedChain, step: int, data: st.DataObject) -> None:
    output = output_of(stated)
    file, image = whole(output), Image(stated.chain, output, "")
    if step > 5000:
        assert b"".join(image.stream(step)) == file
    edges = [GRAINS_AT, output.size, *(GRAINS_AT + n * STORED_SIZE for n in range(output.allocated // GRAIN_SIZE))]
    marks = [0, 8, 12, 19, 65_554, 65_559, SUM_AT, SUM_AT + 1, SUM_AT + 4, STORED_SIZE]
    for _ in range(20):
        start = data.draw(st.sampled_from(edges)) + data.draw(st.sampled_from(marks)) - data.draw(st.integers(0, 9))
        length = data.draw(st.sampled_from([1, 3, 512, 4096, 70_000]))
        assert image.read_at(start, length) == file[start : start + length]


@given(chains(), st.sampled_from([1, 2, 8]))
@settings(max_examples=20)
def test_how_much_is_resolved_at_once_does_not_matter(stated: StatedChain, blocks: int) -> None:
    wanted = whole(output_of(replace(stated, at_once=AT_ONCE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(granularity, "_MOST_BLOCKS", blocks)
        assert whole(output_of(stated)) == wanted


@given(chains())
@settings(max_examples=20)
def test_what_is_known_of_the_grains_gives_their_bytes(stated: StatedChain) -> None:
    output, grains = output_of(stated), grains_of(stated)
    file, stop = whole(output), GRAINS_AT + len(grains) * STORED_SIZE
    assert output.known(GRAINS_AT - 1, wait=True) is None
    assert output.known(stop, wait=True) is None
    at, left = GRAINS_AT, [index * 128 for index in sorted(grains)]
    while at < stop:
        region = output.known(at, wait=True)
        assert region is not None
        assert region.start == at
        assert region == output.known(region.stop - 1, wait=True)
        made = bytes_of(stated, region, left)
        assert made == file[region.start : region.stop]
        del left[: len(made) // STORED_SIZE]
        at = region.stop
    assert (at, left) == (stop, [])


def bytes_of(stated: StatedChain, region: Region, sectors: list[int]) -> bytes:
    assert region.pieces is not None
    assert region.frame is not None
    count = (region.stop - region.start) // region.frame.size
    payload = bytearray(count * region.frame.payload)
    PieceReader(stated.chain).readinto(region.pieces, 0, memoryview(payload), wait=True)
    return framed(region.frame, bytes(payload), sectors[:count])


def test_how_much_of_a_frame_is_carried_before_a_place() -> None:
    frame = Frame(100, 30, ((10, 30), (50, 60)))
    before = [frame.carried(at) for at in range(300)]
    assert before == [
        30 * (at // 100) + max(0, min(at % 100 - 10, 20)) + max(0, min(at % 100 - 50, 10)) for at in range(300)
    ]


@given(chains())
@settings(max_examples=10)
def test_all_of_it_is_one_piece_of_data(stated: StatedChain) -> None:
    output = output_of(stated)
    image = Image(stated.chain, output, "")
    assert list(output.regions()) == [Region(0, output.size, None)]
    assert [image.seek(at, os.SEEK_DATA) for at in (0, 700, output.size - 1)] == [0, 700, output.size - 1]
    assert image.seek(5, os.SEEK_HOLE) == output.size == output.stored
    assert image.ahead(0, 1) is None


def test_nothing_is_resolved_by_who_does_not_wait() -> None:
    stated = StatedChain((StatedLayer(((10 * GRAIN_SIZE, Kind.DATA, 0),)),))
    output = output_of(stated)
    for offset in (GRAINS_AT, GRAINS_AT + SUM_AT, GRAINS_AT + 10 * STORED_SIZE + 512):
        with pytest.raises(WouldBlock):
            output.readinto(offset, memoryview(bytearray(4)), wait=False)
    with pytest.raises(WouldBlock):
        output.known(GRAINS_AT, wait=False)
    head = bytearray(600)
    output.readinto(0, memoryview(head), wait=False)
    assert head[:4] == b"KDMV"


@dataclass(frozen=True)
class WideLayer(StatedLayer):
    """A layer that is resolved in one go, as a raw file is."""

    @cached_property
    def load(self) -> Load:
        return Load(self.populated(), UNLIMITED)


def full(size: int) -> StatedChain:
    """Return a disk of which all is data, without any file that would have them."""
    return StatedChain((WideLayer(((size, Kind.DATA, 0),)),))


def test_a_file_ends_below_2_tib() -> None:
    """Its tables, and the last grain, lead to sectors of 32 bits."""
    size = 2031 * GIB
    output = output_of(full(size))
    grains, tables = size // GRAIN_SIZE, size >> 25
    assert output.size == size_of(size // SECTOR, grains, tables) < 2 * TIB
    last_table = read(output, output.size - (4 + 508) * SECTOR - 4 * SECTOR, 4 * SECTOR)
    assert int.from_bytes(last_table[-4:], "little") == 128 + 129 * (grains - 1)
    directory = read(output, output.size - (3 + 508) * SECTOR, 508 * SECTOR)
    places = [int.from_bytes(directory[at : at + 4], "little") for at in range(0, 4 * tables, 4)]
    assert places == [128 + 129 * grains + 5 * rank + 1 for rank in range(tables)]
    assert not any(directory[4 * tables :])
    assert read(output, 128 * SECTOR + 129 * SECTOR * (grains - 1), 8) == (128 * (grains - 1)).to_bytes(8, "little")


def test_more_data_than_that_are_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"^stated: its disk has too much data for a vmdk, .* below 2.*TiB.*: take it"):
        output_of(full(2032 * GIB))


def test_a_disk_of_more_tables_than_vdifs_reads_is_refused_with_a_remedy() -> None:
    def empty(size: int) -> StatedChain:
        return StatedChain((WideLayer(((size, Kind.UNALLOCATED, 0),)),))

    assert MAX_DIRECTORY * 32 * MIB == 32 * TIB
    assert output_of(empty(32 * TIB)).size == size_of(32 * TIB // SECTOR, 0, 0)
    with pytest.raises(UsageError, match=r"^stated: a vmdk holds disks of 32,768 GiB at most, .*: take it as a qcow2"):
        output_of(empty(32 * TIB + SECTOR))


def test_it_takes_little_memory_and_few_windows() -> None:
    """Windows that hold nothing are not resolved for tables."""
    parts: list[Run] = [(GRAIN_SIZE, Kind.DATA, 0), (5 * GIB, Kind.UNALLOCATED, 0), (GRAIN_SIZE, Kind.DATA, 0)]
    output = output_of(StatedChain((WideLayer(tuple(parts)),)))
    before = window_cache._size
    assert len(whole(output)) == size_of((5 * GIB + 2 * GRAIN_SIZE) // SECTOR, 2, 2)
    assert window_cache._size - before < 3 * 2048
