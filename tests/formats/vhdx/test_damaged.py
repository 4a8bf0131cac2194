"""VHDXs with damage in every structure: refused, or read as a simple reader by docs/formats.md, VHDX, reads them."""

import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.damage import any_number
from tests.support.hand_made_chain import contents, opened, read
from tests.support.units import KIB, MIB
from tests.support.vhdx import BAT_AT, LOG_AT, METADATA_AT, PAGE, Draft, LogEntry, Zeros, linked, summed
from tests.support.vhdx_plain import plain_read, virtual_size
from vdifs.chain.open_chain import Chain, Member
from vdifs.errors import VdifsError
from vdifs.formats.image_format import Front
from vdifs.formats.vhdx.format import VHDX

MOST_MEMORY = 64 * MIB
PER_SEED = 60
Damage = Callable[[random.Random, int], None]


def change(rng: random.Random, fd: int, at: int, length: int) -> None:
    """Give a number of the file another value."""
    old = int.from_bytes(os.pread(fd, length, at), "little")
    os.pwrite(fd, any_number(rng, old, 8 * length).to_bytes(length, "little"), at)


def sum_up(rng: random.Random, fd: int, at: int, length: int) -> None:
    """Mostly give a structure the right checksum."""
    if rng.random() < 0.9:
        os.pwrite(fd, summed(os.pread(fd, length, at)), at)


def header(rng: random.Random, fd: int) -> None:
    fields = [(8, 8), (16, 4), (32, 4), (48, 4), (64, 2), (66, 2), (68, 4), (72, 8), (rng.randrange(80), 1)]
    offset, length = rng.choice(fields)
    for at in rng.choice([[64 * KIB], [128 * KIB], [64 * KIB, 128 * KIB]]):
        change(rng, fd, at + offset, length)
        sum_up(rng, fd, at, PAGE)


def region_table(rng: random.Random, fd: int) -> None:
    offset, length = rng.choice([(8, 4), *((16 + 32 * rng.randrange(3) + at, size) for at, size in ((16, 8), (24, 4)))])
    offset = rng.choice([offset, rng.randrange(112)])
    for at in rng.choice([[192 * KIB], [192 * KIB, 256 * KIB]]):
        change(rng, fd, at + offset, min(length, 112 - offset) or 1)
        sum_up(rng, fd, at, 64 * KIB)


def metadata(rng: random.Random, fd: int) -> None:
    entry = 32 + 32 * rng.randrange(7)
    change(rng, fd, METADATA_AT + rng.choice([10, entry + 16, entry + 20, entry + 24, rng.randrange(256)]), 2)


def items(rng: random.Random, fd: int) -> None:
    change(
        rng, fd, METADATA_AT + 64 * KIB + rng.choice([0, 4, 8, 16, 20, rng.randrange(300)]), rng.choice([1, 2, 4, 8])
    )


def table(rng: random.Random, fd: int) -> None:
    for _ in range(rng.randrange(1, 4)):
        at = BAT_AT + 8 * rng.choice([rng.randrange(12), 2048, 4096])
        change(rng, fd, at, 8)
        if rng.random() < 0.8:
            (entry,) = struct.unpack("<Q", os.pread(fd, 8, at))
            place = rng.choice([entry >> 20, rng.randrange(1, 12)])
            os.pwrite(fd, struct.pack("<Q", place << 20 | rng.choice([0, 1, 2, 3, 6, 7])), at)


def bitmap(rng: random.Random, fd: int) -> None:
    (entry,) = struct.unpack("<Q", os.pread(fd, 8, BAT_AT + 8 * rng.choice([2048, 4096])))
    os.pwrite(fd, rng.randbytes(64), (entry >> 20) * MIB + rng.randrange(0, 2048, 64))


def log(rng: random.Random, fd: int) -> None:
    at = LOG_AT + rng.choice([0, 8, 12, 16, 24, 28, 32, 48, 56, 64 + 8, 64 + 16, 64 + 24, PAGE, 2 * PAGE - 4])
    change(rng, fd, at, rng.choice([1, 4, 8]))
    sum_up(rng, fd, LOG_AT, 2 * PAGE)


def length(rng: random.Random, fd: int) -> None:
    os.ftruncate(fd, rng.choice([rng.randrange(12 * MIB), os.fstat(fd).st_size + rng.randrange(2 * MIB)]))


def anywhere(rng: random.Random, fd: int) -> None:
    at = rng.choice([rng.randrange(300 * KIB), METADATA_AT + rng.randrange(66 * KIB), BAT_AT + rng.randrange(64 * KIB)])
    os.pwrite(fd, rng.randbytes(rng.randrange(1, 9)), at)


DAMAGES: list[Damage] = [header, region_table, metadata, items, table, table, bitmap, log, log, length, anywhere]


def drawn(rng: random.Random, path: Path) -> Path:
    """Write a sound image of 2 chunks or less, one in two with a parent, one in three unclean."""
    parent = linked(UUID(int=5), "b.vhdx") if rng.random() < 0.6 else None
    draft = Draft(rng.randrange(1, 9 * MIB // 4096) * 4096, rng.choice([MIB, 2 * MIB]), rng.choice([512, 4096]), parent)
    for _ in range(3):
        at = rng.randrange(draft.size // draft.sector) * draft.sector
        draft.write(at, rng.randbytes(min(rng.choice([1, 9]) * draft.sector, draft.size - at)))
    draft.bat()
    if rng.random() < 0.4:
        bat = b"".join(struct.pack("<Q", draft.bat().get(index, 0)) for index in range(512))
        writes: list[tuple[int, bytes | Zeros]] = [(BAT_AT, bat), (BAT_AT + PAGE, Zeros(3 * PAGE))]
        draft.dirty((0, LogEntry(9, 0, writes).packed()))
        draft.patches.append((BAT_AT, rng.randbytes(PAGE)))
    return draft.save(path)


def damage(rng: random.Random, path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            with suppress(OSError, OverflowError, struct.error):  # places that no file has
                rng.choice(DAMAGES)(rng, fd)
    finally:
        os.close(fd)


def read_by_vdifs(path: Path, below: bytes) -> bytes:
    """Return the disk of an image that lies over `below`. Raises VdifsError."""
    with read(VHDX, path) as (file, metadata):
        metadata.describe(file, None).all_fields()
        layer = metadata.layer(file, [file], None)
        metadata.audit(file, "x", has_overlay=False).of_state(layer, "x")
        if layer.virtual_size > 64 * MIB:
            layer.extents(0, 64 * MIB)
            raise VdifsError("too large to compare", where="x")
        member = Member("x", file, (file,), metadata, layer)
        chain = Chain((member,))
        disk = bytearray(contents(chain))
        held = chain.extents(0, len(disk))
        for start, stop, kind in zip(held.start.tolist(), held.stop.tolist(), held.kind.tolist(), strict=True):
            if kind == 0:
                disk[start:stop] = below[start:stop].ljust(stop - start, b"\0")
        return bytes(disk)


def read_simply(path: Path, below: bytes) -> bytes:
    image = path.read_bytes()
    return plain_read([image], 0, virtual_size(image), below)


@pytest.mark.seeds(2, long=330)
def test_damage_is_refused_or_read_right(tmp_path: Path, rng: random.Random) -> None:
    """Of sound and damaged images: no other error than what says why, little memory, and never another byte."""
    below = rng.randbytes(8 * MIB)
    accepted = 0
    for number in range(PER_SEED):
        path = drawn(rng, tmp_path / "x.vhdx")
        if number % 10:
            damage(rng, path)
        tracemalloc.start()
        try:
            found = read_by_vdifs(path, below)
        except VdifsError as error:
            assert number % 10, error
            assert error.where
            continue
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MOST_MEMORY
        accepted += 1
        assert found == read_simply(path, below), number
    assert accepted > PER_SEED // 10


def test_any_beginning_of_a_file_is_refused_or_read(tmp_path: Path) -> None:
    """A file that is cut anywhere within its structures."""
    path = drawn(random.Random(4), tmp_path / "x.vhdx")
    size = path.stat().st_size
    for cut in [*range(0, 70 * KIB, 7 * KIB), *range(128 * KIB, size, 411 * KIB), size - 1]:
        os.truncate(drawn(random.Random(4), path), cut)
        with opened(path) as file, suppress(VdifsError):
            assert VHDX.probe(Front(file)) == (cut >= 8)
            VHDX.read(Front(file))
            assert cut > 2 * MIB
