"""Random chains of VHDX files: the disk is that of an array which got the same writes, and what others read.

By a builder that makes all that the format allows, and by FATtools, whose files owe nothing to it.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.support import vhdx_readers as readers
from tests.support.hand_made_chain import laid_over
from tests.support.seven_zip import by_7zip
from tests.support.stated import rows
from tests.support.units import MIB
from tests.support.vhdx import Draft, contents, linked, opened
from vdifs.extents import Extents, Kind

SECTORS = (512, 512, 512, 4096)
BLOCKS = (MIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB)


def random_size(rng: random.Random, sector: int) -> int:
    return rng.choice([rng.randrange(1, 16) * MIB, rng.randrange(1, 16 * MIB // sector) * sector])


@dataclass(frozen=True)
class Made:
    """A chain, top first: its files, the array for each, and whether an offset stands where it means nothing."""

    paths: list[Path]
    disks: list[bytes]
    sector: int
    noise: bool


def random_chain(rng: random.Random, folder: Path) -> Made:
    """Return a chain of drafts."""
    made = Made([], [], rng.choice(SECTORS), rng.random() < 0.7)
    size, disk = random_size(rng, made.sector), bytearray()
    below: Draft | None = None
    for depth in range(rng.randrange(1, 7)):
        if rng.random() < 0.2:
            size = random_size(rng, made.sector)
        disk = disk[:size].ljust(size, b"\0")
        parent = None if below is None else linked(below.guid, made.paths[0].name)
        draft = Draft(size, rng.choice(BLOCKS), made.sector, parent, number=depth + 1)
        for _ in range(rng.randrange(8)):
            change(rng, draft, disk)
        path = folder / f"{depth}.{'a' if parent else ''}vhdx"
        made.paths.insert(0, draft.save(path, rng if made.noise else None))
        made.disks.insert(0, bytes(disk))
        below = draft
    return made


def change(rng: random.Random, draft: Draft, disk: bytearray) -> None:
    """Write something, or have a block hold nothing, to a draft and to the disk."""
    if rng.random() < 0.3:
        block = rng.randrange(draft.blocks)
        if draft.states.get(block, 0) < 6:  # what was written stays, or the disk below would show again
            start, state = block * draft.block, rng.choice([1, 2, 3])
            end = min(start + draft.block, draft.size)
            draft.leave(block, state)
            disk[start:end] = bytes(end - start)
        return
    first = rng.randrange(draft.size // draft.sector)
    most = rng.choice([1, 8, 64, 3 * MIB // draft.sector])
    count = min(rng.randrange(1, most + 1), draft.size // draft.sector - first)
    data = rng.randbytes(count * draft.sector) if rng.random() < 0.9 else bytes(count * draft.sector)
    draft.write(first * draft.sector, data)
    disk[first * draft.sector : first * draft.sector + len(data)] = data


@pytest.mark.seeds(15, long=150)
def test_a_chain_of_drafts_reads_as_an_array_of_the_same_writes(tmp_path: Path, rng: random.Random) -> None:
    made = random_chain(rng, tmp_path)
    check(made.paths, made.disks)
    assert contents(*made.paths, at_once=rng.choice([60, 1000])) == made.disks[0], "in small parts"
    if made.sector == 512:
        require_tool("qemu-img")
        assert readers.by_qemu(made.paths[-1]) == made.disks[-1]
        if not made.noise:
            assert readers.by_libvhdi(made.paths[-1]) == made.disks[-1]


def check(paths: list[Path], disks: list[bytes]) -> None:
    """Compare the disk of each image of a chain, and each delta of the top, with the arrays, and the top with 7-Zip."""
    for level, disk in enumerate(disks):
        assert contents(*paths[level:]) == disk
    with opened(*paths) as chain:
        for above in range(1, len(paths)):
            assert laid_over(chain, above, disks[above]) == disks[0]
    if suits_7zip(paths):
        assert by_7zip(paths[0], "vhdx") == disks[0]


def suits_7zip(paths: list[Path]) -> bool:
    """Tell whether 7-Zip reads such sizes: it fails behind a shorter parent, and for an odd number of sectors."""
    with opened(*paths) as chain:
        sizes = [member.layer.virtual_size for member in chain.members]
        sector = chain.members[0].metadata.describe(chain.members[0].file, None).fields(None)["logical sector size"]
    assert isinstance(sector, int)
    return sizes == sorted(sizes) and not any(size % (2 * sector) for size in sizes)


@pytest.mark.seeds(15, long=150)
def test_a_chain_by_fattools_reads_as_an_array_of_the_same_writes(tmp_path: Path, rng: random.Random) -> None:
    """Children have blocks no larger than those below: FATtools looks there for the first sector of a block alone."""
    size = rng.choice([rng.randrange(4, 20) * MIB, rng.randrange(4096, 20480) * 1024])
    disk, block = bytearray(size), rng.choice(BLOCKS[1:])
    disks: list[bytes] = []
    layers: list[readers.Layer] = []
    for depth in range(rng.randrange(1, 7)):
        writes = []
        for _ in range(rng.randrange(1, 7)):
            start = rng.randrange(size)
            if rng.random() < 0.7:
                start -= start % 512
            length = min(rng.randrange(1, rng.choice([512, 65536, 3 * MIB])), size - start)
            seed = rng.randrange(1 << 30)
            writes.append((start, length, seed))
            disk[start : start + length] = random.Random(seed).randbytes(length)
        parent = layers[-1].name if layers else None
        layers.append(readers.Layer(f"{depth}.vhdx", size, block, parent, writes))
        disks.insert(0, bytes(disk))
        block = rng.choice([each for each in BLOCKS if each <= block])
    readers.write_with_fattools(tmp_path, layers)
    paths = [tmp_path / layer.name for layer in reversed(layers)]
    assert_linked(paths)
    check(paths, disks)


def assert_linked(paths: list[Path]) -> None:
    """Each names the one below, by its name and by its identity."""
    with opened(*paths) as chain:
        for above, below in zip(chain.members[:-1], chain.members[1:], strict=True):
            parent = above.metadata.parent
            assert parent is not None
            assert parent.names[0] == Path(below.path).name
            assert parent.identities & below.metadata.identities


@pytest.mark.seeds(4, long=40)
def test_each_chunk_has_its_bitmap(tmp_path: Path, rng: random.Random) -> None:
    """A chunk has 2**23 sectors: writes lie at the ends of some, over blocks of another size in the parent."""
    sector, chunks = rng.choice([(512, 6), (4096, 3)])
    size = (chunks << 23) * sector - rng.randrange(1000) * sector
    drafts = [Draft(size, rng.choice(BLOCKS), sector, number=1)]
    drafts.append(Draft(size, rng.choice(BLOCKS[:3]), sector, linked(drafts[0].guid, "b"), number=2))
    disk: dict[int, bytes] = {}
    for draft in drafts:
        for edge in [0, size // sector, *(chunk << 23 for chunk in range(1, chunks))]:
            for _ in range(rng.randrange(3)):
                first = min(max(0, edge + rng.choice([-3000, -1, 0, rng.randrange(-9, 9)])), size // sector - 1)
                count = min(rng.choice([1, 5]), size // sector - first)
                data = rng.randbytes(count * sector)
                draft.write(first * sector, data)
                disk |= {first + each: data[each * sector : (each + 1) * sector] for each in range(count)}
    paths = [draft.save(tmp_path / name, rng) for draft, name in zip(drafts, "ba", strict=True)]
    found: dict[int, bytes] = {}
    with opened(*reversed(paths)) as chain:
        assert chain.virtual_size == size
        for part in chain.in_parts():
            for start, stop, kind, file, host in rows(part):
                data = chain.data_files[file].read_at(host, stop - start) if kind == Kind.DATA else b""
                for at in range(0, len(data), sector):
                    if any(data[at : at + sector]):
                        found[(start + at) // sector] = data[at : at + sector]
    assert found == disk


@pytest.mark.seeds(3, long=30)
def test_a_window_is_a_slice_of_the_whole(tmp_path: Path, rng: random.Random) -> None:
    made = random_chain(rng, tmp_path)
    with opened(made.paths[0]) as chain:
        layer, size = chain.members[0].layer, len(made.disks[0])
        whole = layer.extents(0, size)
        held = layer.populated().tolist()
        for _ in range(50):
            start, end = sorted(rng.sample(range(0, size + 512, 512), 2))
            found = layer.extents(start, end)
            assert told(found) == told(whole.between(start, end).merged())
            if not any(low < end and start < high for low, high in held):
                assert len(found) == 1, "nothing but UNALLOCATED, or ZERO without a parent"


def told(extents: Extents) -> list[list[int]]:
    columns = (extents.start, extents.stop, extents.kind, extents.file, extents.host)
    return [column.tolist() for column in columns]
