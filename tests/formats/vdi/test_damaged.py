"""VDIs with damage in header and map: refused, or read as a simple reader reads them."""

import random
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.damage import change, is_read
from tests.support.hand_made_chain import contents, opened
from tests.support.vdi import FIELDS, HEADER_END, MIB, SECTOR, Vdi, header, name, offsets, plain_read
from tests.support.written_disks import writes
from vdifs.chain.open_chain import Chain
from vdifs.errors import VdifsError
from vdifs.formats.image_format import Front
from vdifs.formats.vdi.format import VDI

KIB = 1 << 10
MOST_MEMORY = 64 << 20
PER_SEED = 150
Damage = Callable[[random.Random, bytearray], None]


def field(rng: random.Random, image: bytearray) -> None:
    """A field of the header."""
    at, length = offsets()[rng.choice(FIELDS)]
    change(rng, image, at, min(length, 16), "little")


def entry(rng: random.Random, image: bytearray) -> None:
    """An entry of the map points elsewhere, perhaps where another does."""
    at, other = (SECTOR + 4 * rng.randrange(6) for _ in range(2))
    if rng.random() < 0.3:
        image[at : at + 4] = image[other : other + 4]
    elif rng.random() < 0.6:
        image[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff"])
    else:
        change(rng, image, at, 4, "little")


def length(rng: random.Random, image: bytearray) -> None:
    """The file is cut, or goes on."""
    if rng.random() < 0.7:
        del image[rng.choice([len(image) - 1, len(image) - SECTOR, rng.randrange(len(image) + 1)]) :]
    else:
        image += bytes(rng.choice([1, SECTOR, 128 * KIB]))


DAMAGE: list[Damage] = [field, field, entry, entry, length]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder, rng = tmp_path_factory.mktemp("templates"), random.Random(5)
    made = list[bytes]()
    for number, (parent, extra) in enumerate([(None, 0), (name(9), 0), (None, 512), (name(9), 256)]):
        image = Vdi(550 * KIB, 128 * KIB, parent, extra=extra, static=number == 2)
        for each in writes(rng, image.size, most=3):
            image.put(each.offset, each.data)
        image.put(0, b"\7" * KIB)
        image.zero = {3} - {*image.blocks}
        made.append(image.write(folder / f"{number}.vdi").read_bytes())
    return made


def read_all(chain: Chain, image: bytes) -> None:
    size = chain.virtual_size
    if size <= 2 * MIB:
        assert contents(chain) == plain_read([image], 0, size)
    else:
        assert sum(part.end - int(part.start[0]) for part in chain.in_parts()) == size


@pytest.mark.seeds(10, long=80)
def test_damage_is_refused_or_read_as_it_stands(tmp_path: Path, templates: list[bytes], rng: random.Random) -> None:
    path, read = tmp_path / "x.vdi", 0
    tracemalloc.start()
    for _ in range(PER_SEED):
        image = bytearray(rng.choice(templates))
        for _ in range(rng.choice([1, 1, 2, 4])):
            rng.choice(DAMAGE)(rng, image)
        path.unlink(missing_ok=True)
        path.write_bytes(image)
        read += is_read(VDI, path, partial(read_all, image=bytes(image)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 20 < read < PER_SEED - 20, "some are read, and some are refused"
    assert peak < MOST_MEMORY


def test_any_bytes_are_no_vdi_or_refused(tmp_path: Path) -> None:
    rng = random.Random(3)
    for size in (0, 1, 64, 67, 68, 300, 456, 472, 512, 4096, 70_000):
        for mark in (b"", b"\x7f\x10\xda\xbe", header()[64:72]):
            data = bytearray(rng.randbytes(size))
            data[64 : 64 + len(mark)] = mark if size > HEADER_END or not mark else mark[: max(0, size - 64)]
            path = tmp_path / f"{size}-{len(mark)}"
            path.write_bytes(data)
            with opened(path) as file:
                front = Front(file)
                assert VDI.probe(front) == (mark != b"" and size >= 68)
                with pytest.raises(VdifsError):
                    VDI.read(front)
