"""VHDs with damage in footer, header, table, bitmaps and names: refused, or read as a simple reader reads them."""

import os
import random
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import vhd
from tests.support.damage import change, is_read
from tests.support.hand_made_chain import contents, opened
from tests.support.vhd import FOOTER_FIELDS, HEADER_FIELDS, SECTOR, Vhd
from tests.support.written_disks import writes
from vdifs.chain.open_chain import Chain
from vdifs.errors import VdifsError
from vdifs.formats.image_format import Front
from vdifs.formats.vhd.format import VHD

KIB, MIB = 1 << 10, 1 << 20
MOST_MEMORY = 64 << 20
PER_SEED = 250
Damage = Callable[[random.Random, bytearray], None]

_FOOTER_PLACES = dict(zip(FOOTER_FIELDS, vhd.offsets(">8sIIQI4sI4sQQHBBII16sBB"), strict=True))
_HEADER_PLACES = dict(zip(HEADER_FIELDS, vhd.offsets(">8sQQIIII16sII512s"), strict=True))


def footer(rng: random.Random, image: bytearray) -> None:
    """A field of one or both footers; mostly with a new checksum."""
    name, (offset, length) = rng.choice(list(_FOOTER_PLACES.items()))
    at = rng.choice([0, len(image) - SECTOR])
    if at < 0:
        return
    change(rng, image, at + offset, length, "big")
    if name != "checksum" and rng.random() < 0.8:
        image[at : at + SECTOR] = vhd.signed(bytes(image[at : at + SECTOR]), 64)
    if rng.random() < 0.7:
        other = len(image) - SECTOR - at
        image[other : other + SECTOR] = image[at : at + SECTOR]


def header(rng: random.Random, image: bytearray) -> None:
    """A field of the header or a locator."""
    name, (offset, length) = rng.choice(list(_HEADER_PLACES.items()))
    if rng.random() < 0.3:
        offset, length = 576 + 24 * rng.randrange(2) + rng.choice([0, 4, 8, 16]), rng.choice([4, 8])
    change(rng, image, 512 + offset, min(length, 8), "big")
    if name != "checksum" and rng.random() < 0.9 and len(image) >= 1536:
        image[512:1536] = vhd.signed(bytes(image[512:1536]), 36)


def entry(rng: random.Random, image: bytearray) -> None:
    """An entry of the table points elsewhere, perhaps where another does."""
    at = 1536 + 4 * rng.randrange(40)
    if rng.random() < 0.5:
        image[at : at + 4] = image[(other := 1536 + 4 * rng.randrange(40)) : other + 4]
    else:
        change(rng, image, at, 4, "big")


def somewhere(rng: random.Random, image: bytearray) -> None:
    """Some bytes anywhere, bitmaps mostly."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(1536, max(1537, len(image)), rng.choice([1, 512]))
        image[at : at + 4] = rng.randbytes(4)


def length(rng: random.Random, image: bytearray) -> None:
    """The file is cut, or goes on."""
    if rng.random() < 0.7:
        del image[rng.choice([len(image) - 1, len(image) - SECTOR, rng.randrange(len(image) + 1)]) :]
    else:
        image += rng.choice([bytes(SECTOR), bytes(1), bytes(image[-SECTOR:]), bytes(image[:SECTOR])])


DAMAGE: list[Damage] = [footer, footer, header, header, entry, entry, entry, somewhere, length]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder, rng = tmp_path_factory.mktemp("templates"), random.Random(5)
    made = [vhd.fixed(rng.randbytes(96 * KIB)), vhd.fixed(rng.randbytes(64 * KIB))[:-1]]
    for number, (block, parent) in enumerate([(4 * KIB, None), (16 * KIB, UUID(int=9)), (16 * KIB, None)]):
        image = Vhd(
            150 * KIB,
            block,
            parent,
            UUID(int=2),
            "b.vhd",
            [(b"W2ru", ".\\b.vhd".encode("utf-16-le")), (b"MacX", b"file://./b.vhd")],
            batmap=vhd.batmap_header() if number == 1 else b"",
            footer_fields={"creator": b"tap\0"} if number == 1 else {},
        )
        for each in writes(rng, image.size, most=9):
            image.put(each.offset, each.data)
        image.put(0, b"\7" * KIB)
        made.append(image.write(folder / f"{number}.vhd").read_bytes())
    return made


def plain_disk(image: bytes, size: int) -> bytes:
    """Read an image as simply as can be, sector by sector; what is a parent's is zeros."""
    foot = image[-SECTOR:] if image[-SECTOR:].startswith(b"conectix") else image[-511:] + b"\0"
    if not foot.startswith(b"conectix"):
        foot = image[:SECTOR]
    if int.from_bytes(foot[60:64], "big") == vhd.FIXED:
        return image[:size]
    at = int.from_bytes(foot[16:24], "big")
    table, block = int.from_bytes(image[at + 16 : at + 24], "big"), int.from_bytes(image[at + 32 : at + 36], "big")
    bitmap_space = -(-block // 4096 // SECTOR) * SECTOR
    disk = bytearray(size)
    for offset in range(0, size, SECTOR):
        place = table + offset // block * 4
        place = int.from_bytes(image[place : place + 4], "big")
        sector = offset % block // SECTOR
        if place != vhd.ABSENT and image[place * SECTOR + sector // 8] & 0x80 >> sector % 8:
            data = place * SECTOR + bitmap_space + offset % block
            disk[offset : offset + SECTOR] = image[data : data + SECTOR]
    return bytes(disk)


def read_all(chain: Chain, image: bytes) -> None:
    size = chain.virtual_size
    if size <= MIB:
        assert contents(chain) == plain_disk(image, size)
    else:
        assert sum(part.end - int(part.start[0]) for part in chain.in_parts()) == size


@pytest.mark.seeds(12, long=80)
def test_damage_is_refused_or_read_as_it_stands(tmp_path: Path, templates: list[bytes], rng: random.Random) -> None:
    path, read = tmp_path / "x.vhd", 0
    tracemalloc.start()
    for _ in range(PER_SEED):
        image = bytearray(rng.choice(templates))
        for _ in range(rng.choice([1, 1, 2, 4])):
            rng.choice(DAMAGE)(rng, image)
        path.unlink(missing_ok=True)
        path.write_bytes(image)
        read += is_read(VHD, path, partial(read_all, image=bytes(image)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 20 < read < PER_SEED - 20, "some are read, and some are refused"
    assert peak < MOST_MEMORY


def test_any_bytes_are_no_vhd_or_refused(tmp_path: Path) -> None:
    rng = random.Random(3)
    for length in (0, 1, 510, 511, 512, 513, 1023, 1024, 4096, 70_000):
        data = bytearray(rng.randbytes(length))
        for mark in (b"", b"conectix"):
            data[-512 : -512 + len(mark) or None] = mark if len(data) >= SECTOR else b""
            path = tmp_path / f"{length}{len(mark)}"
            path.write_bytes(data)
            with opened(path) as file:
                front = Front(file)
                assert VHD.probe(front) == (mark != b"" and length >= SECTOR)
                with pytest.raises(VdifsError):
                    VHD.read(front)
    assert os.listdir(tmp_path)
