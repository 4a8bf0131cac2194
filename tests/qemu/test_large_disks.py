"""Large, sparse disks with clusters of any size: L2 tables of one size end amid those of another, again and again.

Disks of other tests fit into a few L2 tables. Here each has dozens to thousands of them, and the writes lie at the
seams: of the source's tables, of the output's, and of runs that cross both.
"""

from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle
from tests.support.builder import make
from tests.support.copying import copy_in_pieces
from tests.support.drafts import log_uniform
from tests.support.stamps import stamped
from tests.support.units import GIB, KIB, MIB, SECTOR, sectors_up

TIB = 1 << 40
CLUSTER_SIZES = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 2 * MIB]
MOST_TABLES = 1 << 13
"""L2 tables of one disk: QEMU looks at each when it compares."""


@pytest.mark.seeds(8, long=150)
@pytest.mark.timeout(600)
def test_a_large_disk_is_the_same_with_output_clusters_of_any_size(tmp_path: Path, seed: int, rng: Random) -> None:
    chain = make_chain(tmp_path, rng)
    size = oracle.virtual_size(chain[0])
    for number, cluster_size in enumerate(rng.sample([each for each in CLUSTER_SIZES if fits(size, each)], 3)):
        extended = rng.random() < 0.25 and cluster_size >= 16 * KIB
        note = f"{[oracle.info(image)['cluster-size'] for image in chain]} -> {cluster_size}, {extended=}, {size=}"
        try:
            full, delta = tmp_path / f"full{number}.qcow2", tmp_path / f"delta{number}.qcow2"
            with vdifs.open(chain[0], cluster_size=cluster_size, extended_l2=extended) as image:
                copy_in_pieces(image, full, rng)
            prove(full, chain[0])
            with vdifs.open(chain[0], base=rng.choice(chain), cluster_size=cluster_size, extended_l2=extended) as image:
                copy_in_pieces(image, delta, rng)  # beside its base, which it names
            prove(delta, chain[0])
        except BaseException as error:
            error.add_note(note)
            raise


def prove(file: Path, source: Path) -> None:
    oracle.check(file)
    oracle.compare(file, source)


def fits(size: int, cluster_size: int) -> bool:
    return -(-size // table_reach(cluster_size)) <= MOST_TABLES


def table_reach(cluster_size: int) -> int:
    """Return how many bytes of the disk one L2 table maps."""
    return cluster_size // 8 * cluster_size


def make_chain(folder: Path, rng: Random) -> list[Path]:
    """Make one to four images, top first, of a disk of one size or of several."""
    size = sectors_up(log_uniform(rng, 64 * GIB, 16 * TIB) + rng.choice([0, SECTOR, MIB]))
    images: list[Path] = []
    for level in range(rng.randint(1, 4)):
        cluster_size = rng.choice([each for each in CLUSTER_SIZES if fits(size, each)])
        path = folder / f"{level}.qcow2"
        make(path, size, backing=(images[0].name, "qcow2") if images else None, cluster_size=cluster_size)
        oracle.qemu_io(path, list(commands(folder, level, size, rng)), cwd=folder)
        images.insert(0, path)
        if rng.random() < 0.2:
            size = sectors_up(size * rng.choice([3, 5]) // 4)
    return images


def commands(folder: Path, level: int, size: int, rng: Random) -> list[str]:
    """Return writes of data and of zeros, most of them across or beside a seam; some of them in a row of seams."""
    made = []
    for index in range(rng.randint(2, 10)):
        reach = table_reach(rng.choice(CLUSTER_SIZES))
        seam = rng.randrange(1 + size // reach) * reach
        for step in range(rng.choice([1, 1, 4, 20])):
            length = sectors_up(log_uniform(rng, SECTOR, 512 * KIB))
            start = seam + step * rng.choice([reach, reach // 2, reach // 64])
            start = max(0, min(start - rng.choice([0, SECTOR, length // 2, length]) // SECTOR * SECTOR, size - length))
            if rng.random() < 0.2:
                made.append(f"write -z {start} {length * 16 if start + length * 16 <= size else length}")
                continue
            pattern = folder / f"{level}.{index}.{step}"
            pattern.write_bytes(stamped(start, length, level << 8 | index))
            made.append(f"write -s {pattern.name} {start} {length}")
    return made
