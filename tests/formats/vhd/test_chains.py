"""Random chains of VHDs, of FATtools' and of the builder's: vdifs, 7-Zip, QEMU and an array agree on each disk.

7-Zip is right for children, QEMU for bases where it is told to take the current size; docs/formats.md, "Oracles".
"""

import random
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.conftest import require_tool
from tests.support import fattools, oracle, vhd
from tests.support.hand_made_chain import chain_of, contents, laid_over, read
from tests.support.seven_zip import by_7zip
from tests.support.vhd import SECTOR, Vhd
from tests.support.written_disks import Write, writes, written
from vdifs.formats.vhd.format import VHD

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Made:
    """A chain, base first: its files, and the array for each.

    plain: whether no file has more table entries than it needs or a footer of 511 bytes, which 7-Zip refuses.
    """

    paths: list[Path]
    disks: list[bytes]
    plain: bool = True


def built(folder: Path, rng: random.Random, depth: int) -> Made:
    """Return a chain of the builder's: sizes, block sizes, the order of blocks and their places differ in each file."""
    paths, disks = list[Path](), list[bytes]()
    below, size, plain = b"", rng.randint(1, 12 * MIB // SECTOR) * SECTOR, rng.random() < 0.8
    for level in range(depth):
        if level and rng.random() < 0.3:
            size = rng.randint(1, 12 * MIB // SECTOR) * SECTOR
        wrote = writes(rng, size)
        disks.append(written(below, size, wrote))
        below = disks[-1]
        path = folder / f"{level}.vhd"
        paths.append(path)
        if not level and rng.random() < 0.25:
            path.write_bytes(vhd.fixed(below, uuid=UUID(int=1).bytes)[: None if plain else -1])
        else:
            draw_image(rng, size, level, wrote, 0 if plain else 5).write(path)
    return Made(paths, disks, plain)


def draw_image(rng: random.Random, size: int, level: int, wrote: list[Write], more: int) -> Vhd:
    name = f"{level - 1}.vhd"
    image = Vhd(
        size,
        rng.choice([4 * KIB, 64 * KIB, 512 * KIB, 2 * MIB, 2 * MIB, 16 * MIB]),
        UUID(int=level) if level else None,
        UUID(int=level + 1),
        name if level else "",
        [(b"W2ru", f".\\{name}".encode("utf-16-le"))] if level else [],
        align=rng.choice([SECTOR, SECTOR, 4096]),
        blocks_more=more,
    )
    for each in wrote:
        image.put(each.offset, each.data)
    image.order = rng.sample(list(image.blocks), len(image.blocks))
    return image


def by_fattools(folder: Path, rng: random.Random, depth: int) -> Made:
    """Return a chain of FATtools', whose children are of the same size."""
    size = rng.randint(1, 12 * MIB // SECTOR) * SECTOR
    block = rng.choice([512 * KIB, MIB, 2 * MIB, 2 * MIB, 4 * MIB])
    wrote = [writes(rng, size) for _ in range(depth)]
    disks = list[bytes]()
    for each in wrote:
        disks.append(written(disks[-1] if disks else b"", size, each))
    names = [f"{level}.vhd" for level in range(depth)]
    fattools.write_chain(folder, "vhd", names, size, wrote, block=block)
    return Made([folder / name for name in names], disks)


def check(made: Made, folder: Path) -> None:
    """Compare each image of a chain, and each delta of the last, with the array; and base and last with others."""
    for level in range(len(made.paths)):
        with chain_of(VHD, *reversed(made.paths[: level + 1])) as chain:
            assert contents(chain) == made.disks[level]
    with chain_of(VHD, *reversed(made.paths)) as chain:
        for above in range(1, len(made.paths)):
            assert laid_over(chain, above, made.disks[-1 - above]) == made.disks[-1]
    assert by_qemu(made.paths[0], folder / "qemu.raw") == made.disks[0]
    sizes = [len(disk) for disk in made.disks]
    if made.plain and sizes == sorted(sizes, reverse=True):  # 7-Zip fails behind the end of a shorter parent
        assert by_7zip(made.paths[-1], "vhd") == made.disks[-1]


def by_qemu(path: Path, output: Path) -> bytes:
    require_tool("qemu-img")
    source = f"driver=vpc,file.filename={path},force_size_calc=current_size"
    oracle.qemu_img("convert", "-O", "raw", "--image-opts", source, output)
    return output.read_bytes()


@pytest.mark.seeds(15, long=150)
def test_chains_that_differ_in_all_that_may_differ(tmp_path: Path, rng: random.Random) -> None:
    check(built(tmp_path, rng, rng.randint(1, 6)), tmp_path)


@pytest.mark.seeds(15, long=150)
def test_chains_of_another_program(tmp_path: Path, rng: random.Random) -> None:
    made = by_fattools(tmp_path, rng, rng.randint(1, 6))
    check(made, tmp_path)
    for child, parent in zip(made.paths[1:], made.paths, strict=False):
        with read(VHD, child) as (_, metadata), read(VHD, parent) as (_, below):
            assert metadata.parent is not None
            assert metadata.parent.names[0] == parent.name
            assert metadata.parent.identities & below.identities
