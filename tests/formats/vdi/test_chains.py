"""Random chains of VDIs, of FATtools', of QEMU's and of the builder's: vdifs, other readers and an array agree.

No program reads all of them: docs/formats.md, "Oracles". QEMU and 7-Zip read bases with blocks of 1 MiB, dissect
children too; blocks of other sizes and extra data have the array alone.
"""

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import cannot_be_tried
from tests.support import fattools, oracle
from tests.support.hand_made_chain import chain_of, contents, laid_over, read
from tests.support.seven_zip import by_7zip
from tests.support.vdi import MIB, SECTOR, Vdi, name
from tests.support.written_disks import writes, written
from vdifs.formats.vdi.format import VDI

KIB = 1 << 10
BY_DISSECT = """
import json, sys
from dissect.hypervisor.disk.vdi import VDI
names, size = json.load(sys.stdin)
below = None
for name in names:
    below = VDI(open(name, "rb"), below).open()
for at in range(0, size, 1 << 20):  # a block each: it takes whatever it reads at once for one
    below.seek(at)
    sys.stdout.buffer.write(below.read(min(1 << 20, size - at)))
"""


@dataclass(frozen=True)
class Made:
    """A chain, base first: its files, and the array for each.

    plain: whether the base is one that QEMU reads. packed: whether it has no places without a block, as 7-Zip wants.
    """

    paths: list[Path]
    disks: list[bytes]
    plain: bool = False
    packed: bool = False


def built(folder: Path, rng: random.Random, depth: int) -> Made:
    """Return a chain of the builder's: sizes, block sizes, extra data and the order of blocks differ in each file."""
    paths, disks = list[Path](), list[bytes]()
    below, size, plain, packed = b"", drawn_size(rng), False, False
    for level in range(depth):
        if level and rng.random() < 0.3:
            size = drawn_size(rng)
        image, below = draw_image(rng, size, level, below)
        if not level:
            plain = (image.block_size, image.extra, image.blocks_more, image.cut) == (MIB, 0, 0, 0)
            plain = plain and not image.data_offset % SECTOR
            packed = image.order is not None and None not in image.order and not size % SECTOR
        disks.append(below)
        paths.append(image.write(folder / f"{level}.vdi"))
    return Made(paths, disks, plain, packed)


def drawn_size(rng: random.Random) -> int:
    sectors = rng.randint(1, 12 * MIB // SECTOR)
    return rng.choice([sectors * SECTOR, sectors * SECTOR, -(-sectors * SECTOR // MIB) * MIB, sectors * SECTOR - 100])


def draw_image(rng: random.Random, size: int, level: int, below: bytes) -> tuple[Vdi, bytes]:
    """Return an image with some writes, zeroed and discarded blocks, and its disk."""
    image = Vdi(
        size,
        rng.choice([128 * KIB, 256 * KIB, MIB, MIB, MIB, 2 * MIB]),
        name(level) if level else None,
        name(level + 1),
        extra=rng.choice([0, 0, 0, 1, 256, 512, 4096]),
        static=not level and rng.random() < 0.3,
        blocks_more=rng.choice([0, 0, 0, 3]),
        behind_map=rng.choice([0, 0, SECTOR, 100]),
    )
    if level and rng.random() < 0.2:
        image.fields["parent_modification_uuid"] = bytes(16)
    whole = -(-size // SECTOR) * SECTOR
    below = below[:whole].ljust(whole, b"\0")
    disk = bytearray(below)
    for each in writes(rng, whole):
        disk[:] = written(bytes(disk), whole, [each])
        image.put(each.offset, each.data, below)
    for number in range(image.count - image.blocks_more):
        low, high = number * image.block_size, min((number + 1) * image.block_size, whole)
        drawn = rng.random()
        if drawn < 0.1:
            image.blocks.pop(number, None)
            image.zero.add(number)
            disk[low:high] = bytes(high - low)
        elif drawn < 0.15:
            image.blocks.pop(number, None)
            disk[low:high] = below[low:high]
        elif image.static and number not in image.blocks:
            image.blocks[number] = b""
    shuffled: list[int | None] = [*image.blocks, *([None] if rng.random() < 0.3 else [])]
    image.order = rng.sample(shuffled, len(shuffled))
    last = whole // image.block_size
    if image.order and image.order[-1] == last and whole % image.block_size:
        image.cut = rng.choice([0, image.block_size - whole % image.block_size])
    return image, bytes(disk)


def by_fattools(folder: Path, rng: random.Random, depth: int) -> Made:
    """Return a chain of FATtools', whose children are of the same size, in whole blocks: else its blocks overlap."""
    block = rng.choice([MIB, MIB, 2 * MIB, 4 * MIB])
    size = rng.randint(1, 12 * MIB // block) * block
    wrote = [writes(rng, size) for _ in range(depth)]
    disks = list[bytes]()
    for each in wrote:
        disks.append(written(disks[-1] if disks else b"", size, each))
    names = [f"{level}.vdi" for level in range(depth)]
    fattools.write_chain(folder, "vdi", names, size, wrote, block=block)
    return Made([folder / name for name in names], disks)


def check(made: Made, folder: Path) -> None:
    """Compare each image of a chain, and each delta of the last, with the array; and the base with other readers."""
    for level in range(len(made.paths)):
        with chain_of(VDI, *reversed(made.paths[: level + 1])) as chain:
            assert contents(chain) == made.disks[level]
    with chain_of(VDI, *reversed(made.paths)) as chain:
        for above in range(1, len(made.paths)):
            assert laid_over(chain, above, made.disks[-1 - above]) == made.disks[-1]
    for child, parent in zip(made.paths[1:], made.paths, strict=False):
        with read(VDI, child) as (_, metadata), read(VDI, parent) as (_, below):
            assert metadata.parent is not None
            assert metadata.parent.names == ()
            assert metadata.parent.identities <= below.identities
    if made.plain:
        assert by_qemu(made.paths[0], folder / "qemu.raw") == made.disks[0]
    if made.plain and made.packed:
        assert by_7zip(made.paths[0], "vdi") == made.disks[0]


def by_qemu(path: Path, output: Path) -> bytes:
    return oracle.materialize(path, output, format="vdi").read_bytes()


def by_dissect(paths: list[Path], size: int) -> bytes:
    """Return the disk of a chain, base first, by a program of its own: dissect.hypervisor is AGPL."""
    if find_spec("dissect") is None or find_spec("dissect.hypervisor") is None:
        cannot_be_tried("dissect.hypervisor is not installed")
    task = json.dumps([[str(path) for path in paths], size]).encode()
    done = subprocess.run([sys.executable, "-c", BY_DISSECT], input=task, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.seeds(20, long=200)
def test_chains_that_differ_in_all_that_may_differ(tmp_path: Path, rng: random.Random) -> None:
    check(built(tmp_path, rng, rng.randint(1, 6)), tmp_path)


@pytest.mark.seeds(10, long=100)
def test_chains_of_another_program_as_a_third_reads_them(tmp_path: Path, rng: random.Random) -> None:
    made = by_fattools(tmp_path, rng, rng.randint(1, 6))
    check(made, tmp_path)
    assert by_dissect(made.paths, len(made.disks[-1])) == made.disks[-1]


@pytest.mark.parametrize("static", ["on", "off"])
@pytest.mark.parametrize("size", [512, 9 * MIB + 512, 40 * MIB, 40 * MIB - 1024])
def test_bases_of_qemus(tmp_path: Path, static: str, size: int) -> None:
    path = tmp_path / "x.vdi"
    oracle.qemu_img("create", "-q", "-f", "vdi", "-o", f"static={static}", path, str(size))
    if size > MIB:
        oracle.qemu_io(path, [f"write -P 3 {size - MIB} 1M", "write -P 5 3M 64k", "write -P 4 0 512"], format="vdi")
    with chain_of(VDI, path) as chain:
        assert chain.virtual_size == size
        assert contents(chain) == by_qemu(path, tmp_path / "qemu.raw")
        assert contents(chain) == by_7zip(path, "vdi")
