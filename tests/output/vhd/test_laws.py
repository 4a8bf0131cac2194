"""The laws of synthetic VHDs, over chains of stated layers. A writer that knows no vdifs says what they must be."""

import os
from itertools import pairwise
from pathlib import Path
from random import Random
from uuid import UUID

import numpy as np
import pytest

from tests.support import vhd
from tests.support.stated import SECTOR, StatedChain, StatedLayer
from tests.support.vhd import Vhd
from tests.support.wide import KIB, MIB, WideDisk, disk_of, draw_chain
from vdifs.chain.flattening import AT_ONCE
from vdifs.extents import Kind
from vdifs.output import granularity
from vdifs.output.protocol import Output, ResolvedSpec
from vdifs.output.vhd.dynamic import DynamicVhdOutput
from vdifs.output.vhd.fixed import FixedVhdOutput
from vdifs.output.window import ONES

BLOCK, GIB = 2 * MIB, 1 << 30
BOTH = [DynamicVhdOutput, FixedVhdOutput]


def spec_of(stated: StatedChain, bits: int = 16) -> ResolvedSpec:
    return ResolvedSpec(stated.chain, None, bits)


def read(output: Output, offset: int, length: int) -> bytes:
    buffer = bytearray(b"\x5a" * length)
    output.readinto(offset, memoryview(buffer), wait=True)
    return bytes(buffer)


def whole(output: Output) -> bytes:
    return read(output, 0, output.size)


def footer_fields(found: bytes, size: int) -> dict[str, object]:
    """Return what the footer of an image has that the writer does not choose: its UUID, its time and its geometry."""
    found = found[-SECTOR:]
    uuid = UUID(bytes=found[68:84])
    assert (uuid.version, uuid.variant) == (5, "specified in RFC 4122")
    cylinders, heads, sectors = int.from_bytes(found[56:58], "big"), found[58], found[59]
    assert size // SECTOR - heads * sectors * 2 < cylinders * heads * sectors <= size // SECTOR
    geometry = {"cylinders": cylinders, "heads": heads, "sectors": sectors}
    return {"uuid": uuid.bytes, "time_stamp": 0, **geometry}


def stored_blocks(disk: WideDisk) -> list[int]:
    per_block = BLOCK // SECTOR
    return [at // per_block for at in range(0, len(disk.data), per_block) if disk.data[at : at + per_block].any()]


def expected_dynamic(disk: WideDisk, found: bytes, path: Path) -> bytes:
    size = max(len(disk.contents), SECTOR)
    made = Vhd(size, align=4096, footer_fields=footer_fields(found, size))
    made.batmap = bytes(-made.first_block() % 4096)
    for number in stored_blocks(disk):
        made.put(number * BLOCK, disk.contents[number * BLOCK : (number + 1) * BLOCK].ljust(BLOCK, b"\0"))
    return made.write(path).read_bytes()


def expected_fixed(disk: WideDisk, found: bytes) -> bytes:
    size = max(MIB, -(-len(disk.contents) // MIB) * MIB)
    sizes: dict[str, object] = {"original_size": size, "current_size": size, "header_offset": (1 << 64) - 1}
    return disk.contents.ljust(size, b"\0") + vhd.footer(disk_type=vhd.FIXED, **sizes, **footer_fields(found, size))


@pytest.mark.seeds(12, long=400)
def test_a_dynamic_one_is_what_another_writer_makes_of_the_disk(tmp_path: Path, rng: Random) -> None:
    stated = draw_chain(rng)
    output, disk = DynamicVhdOutput(spec_of(stated)), disk_of(stated)
    found, stored = whole(output), len(stored_blocks(disk))
    assert found == expected_dynamic(disk, found, tmp_path / "expected.vhd")
    assert output.allocated == stored * BLOCK
    blocks = -(-len(disk.contents) // BLOCK)
    assert output.size_if_full - output.size == (max(blocks, 1) - stored) * (BLOCK + 4 * KIB)


@pytest.mark.seeds(12, long=400)
def test_a_fixed_one_is_the_disk_and_a_footer(rng: Random) -> None:
    stated = draw_chain(rng)
    output, disk = FixedVhdOutput(spec_of(stated)), disk_of(stated)
    found = whole(output)
    assert found == expected_fixed(disk, found)
    assert output.size_if_full == output.size
    assert output.stored <= output.size


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.seeds(6, long=100)
def test_any_range_is_a_slice_of_the_whole(kind: type[Output], rng: Random) -> None:
    output = kind(spec_of(draw_chain(rng)))  # type: ignore[call-arg] # each is made from a spec
    contents = whole(output)
    edges = [0, 512, 1536, 2048, 4096, 4096 + 3584, 8192, output.size - 512, output.size]
    for _ in range(60):
        start = min(max(0, rng.choice([*edges, rng.randrange(output.size)]) + rng.randint(-9, 9)), output.size - 1)
        end = min(output.size, start + rng.choice([1, 7, 4096, rng.randint(1, 3 * MIB)]))
        assert read(output, start, end - start) == contents[start:end], (start, end)
    step = rng.randint(100 * KIB, 3 * MIB)
    parts = [read(output, at, min(step, output.size - at)) for at in range(0, output.size, step)]
    assert b"".join(parts) == contents


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.seeds(6, long=100)
def test_regions_and_what_is_known_tell_the_same_bytes(kind: type[Output], rng: Random) -> None:
    stated = draw_chain(rng)
    output = kind(spec_of(stated))  # type: ignore[call-arg] # each is made from a spec
    contents, at = whole(output), 0
    for region in output.regions():
        assert not any(contents[at : region.start])
        at = region.stop
        if region.readinto is not None:
            buffer = bytearray(region.stop - region.start)
            region.readinto(0, memoryview(buffer))
            assert buffer == contents[region.start : region.stop]
    assert at == output.size, "the footer is at the end"
    for offset in (rng.randrange(output.size) for _ in range(20)):
        known = output.known(offset, wait=True)
        if known is None:
            continue
        assert known.start <= offset < known.stop <= output.size
        assert known.pieces is not None
        end = 0
        for out, stop, kind_of_piece in zip(known.pieces.out, known.pieces.stop, known.pieces.kind, strict=True):
            assert not any(contents[known.start + end : known.start + int(out)]), "zeros between pieces"
            bytes_there = contents[known.start + int(out) : known.start + int(stop)]
            assert (set(bytes_there) == {0xFF}) == (kind_of_piece == ONES)
            end = int(stop)
        assert not any(contents[known.start + end : known.stop])


@pytest.mark.seeds(12, long=400)
def test_a_fixed_one_tells_its_holes(rng: Random) -> None:
    stated = draw_chain(rng)
    output, disk = FixedVhdOutput(spec_of(stated)), disk_of(stated)
    sectors = np.zeros(output.size // SECTOR, np.bool_)
    sectors[: len(disk.data)], sectors[-1] = disk.data, True
    edges = [0, *(np.flatnonzero(np.diff(sectors)) + 1).tolist(), len(sectors)]
    for first, last in pairwise(edges):
        for at in (first * SECTOR, (first * SECTOR + last * SECTOR) // 2, last * SECTOR - 1):
            here, other = (os.SEEK_DATA, os.SEEK_HOLE) if sectors[first] else (os.SEEK_HOLE, os.SEEK_DATA)
            assert output.seek(at, here, wait=True) == at
            assert output.seek(at, other, wait=True) == last * SECTOR
            ahead = output.ahead(at, 3)
            assert ahead is None or ahead.start <= at < ahead.stop <= output.size


def test_a_dynamic_one_is_one_piece_of_data(rng: Random) -> None:
    output = DynamicVhdOutput(spec_of(draw_chain(rng)))
    for at in (0, 5000, output.size - 1):
        assert (output.seek(at, os.SEEK_DATA, wait=False), output.seek(at, os.SEEK_HOLE, wait=False)) == (
            at,
            output.size,
        )
        assert output.ahead(at, 1) is None


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.seeds(4, long=40)
def test_neither_clusters_nor_windows_nor_parts_make_a_difference(kind: type[Output], rng: Random) -> None:
    stated = draw_chain(rng)
    contents = whole(kind(spec_of(stated)))  # type: ignore[call-arg] # each is made from a spec
    blocks = rng.choice([1, 2, 4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(granularity, "_MOST_BLOCKS", blocks)
        patch.setattr(granularity, "_MOST_UNITS", 256 * blocks)
        other = StatedChain(stated.layers, rng.randint(1, 100))
        assert whole(kind(spec_of(other, rng.choice([9, 12, 21])))) == contents  # type: ignore[call-arg] # as above


@pytest.mark.parametrize("kind", BOTH)
def test_a_uuid_tells_how_much_of_each_gib_there_is_and_not_how_that_was_found(kind: type[Output]) -> None:
    def uuid_of(*runs: tuple[int, Kind], at_once: int = AT_ONCE, bits: int = 16) -> object:
        layer = StatedLayer(tuple((length, what, 0) for length, what in runs))
        return kind(spec_of(StatedChain((layer,), at_once), bits)).etag_parts  # type: ignore[call-arg] # as above

    data, nothing = (3 * BLOCK, Kind.DATA), (GIB, Kind.ZERO)
    one, other = (nothing, data, nothing, nothing), (nothing, nothing, data, nothing)
    assert uuid_of(*one) == uuid_of(*one, at_once=30, bits=9) != uuid_of(*other)


@pytest.mark.parametrize("kind", BOTH)
def test_what_a_read_finds_unchanged_in_memory_takes_no_wait(kind: type[Output], rng: Random) -> None:
    output = kind(spec_of(draw_chain(rng)))  # type: ignore[call-arg] # each is made from a spec
    contents, buffer = whole(output), bytearray(output.size)
    output.readinto(0, memoryview(buffer), wait=False)
    assert buffer == contents
