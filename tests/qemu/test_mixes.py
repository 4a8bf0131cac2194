"""Chains of layers of any grain, size and sparseness: opening costs what is on disk, and they read as by QEMU.

QEMU is the measure of time too: `qemu-img map` looks at the same tables. Both in seconds of processor time.
"""

import os
import subprocess
import time
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle
from tests.support.copying import copy_in_pieces
from tests.support.mixes import Filling, Mixed, write_layers
from tests.support.units import GIB, KIB, MIB
from vdifs.chain.naming import ImageName, open_chain
from vdifs.chain.open_chain import Chain
from vdifs.output.process_caches import summary_cache
from vdifs.report.map import map_runs

TIB = 1 << 40
LEAST_S = 0.3
TIMES = 2
SIZES = [GIB, 64 * GIB, TIB, 16 * TIB, 64 * TIB]
CLUSTERS_OF_EXTENDED, CLUSTERS = [14, 16, 21], [9, 12, 14, 16, 18, 21]
OUTPUT_CLUSTERS = [16 * KIB, 64 * KIB, 2 * MIB]


def draw(rng: Random, fillings: list[Filling], entries: list[int], sizes: list[int]) -> Mixed:
    while True:
        extended = rng.random() < 0.3
        mixed = Mixed(
            rng.choice(CLUSTERS_OF_EXTENDED if extended else CLUSTERS),
            extended,
            rng.choice(sizes) + rng.choice([0, 0, 512, MIB]),
            rng.choice(fillings),
            rng.choice(entries),
            rng.random() < 0.5,
        )
        if mixed.fits and mixed.file_size < 8 * TIB:
            return mixed


def seconds_of_map(image: Path) -> float:
    before = os.times()
    subprocess.run(
        ["qemu-img", "map", "--output=json", image], stdout=subprocess.DEVNULL, check=True, env=oracle.environment()
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def seconds_of_opening(image: Path, base: Path | None, cluster_size: int | None) -> float:
    """Return the less of two times: a busy machine charges one process with the work of others now and then."""
    found = []
    for _ in range(2):
        summary_cache.start_anew()
        before = time.process_time()
        with vdifs.open(image, base=base, cluster_size=cluster_size):
            found.append(time.process_time() - before)
    return min(found)


def prove_quick(paths: list[Path], base: Path) -> None:
    most = max(LEAST_S, TIMES * seconds_of_map(paths[0]))
    size = oracle.virtual_size(paths[0])
    for cluster_size in [None, *(each for each in OUTPUT_CLUSTERS if size // (each * each // 8) < 1 << 22)]:
        for below in (None, base):
            taken = seconds_of_opening(paths[0], below, cluster_size)
            assert taken <= most, f"{taken:.2f} s for {cluster_size=}, {below=}"
    with open_chain(ImageName(str(paths[0]), None), (), "refuse") as chain:
        taken = seconds_of_mapping(chain)
        assert taken <= most, f"{taken:.2f} s for a map"


def seconds_of_mapping(chain: Chain) -> float:
    before = time.process_time()
    for _ in map_runs(chain):
        pass
    return time.process_time() - before


LARGE = Mixed(21, False, 64 * TIB, Filling.FAR, 128)
CHAINS = {
    "a coarse layer of all the disk on a small one of subclusters": [
        LARGE,
        Mixed(14, True, 64 * GIB, Filling.FAR, 512),
    ],
    "a coarse layer of all the disk on a small one of the smallest clusters": [
        LARGE,
        Mixed(9, False, 16 * GIB, Filling.FAR, 15_000),
    ],
    "the smallest clusters far apart": [Mixed(9, False, 64 * GIB, Filling.FAR, 20_000)],
    "a full disk hides a finer one": [
        Mixed(21, False, 512 * GIB, Filling.DENSE, 1 << 18),
        Mixed(9, False, 8 * GIB, Filling.STRIPED, 1 << 21),
    ],
    "a delta ends in terabytes of zeros": [LARGE, Mixed(16, False, GIB, Filling.STRIPED, 1 << 14), LARGE],
    "many layers far apart": [Mixed(12, False, TIB, Filling.FAR, 100) for _ in range(12)],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CHAINS)
def test_opening_takes_at_most_twice_as_long_as_qemu_img_map(tmp_path: Path, name: str) -> None:
    paths = write_layers(tmp_path, CHAINS[name])
    prove_quick(paths, paths[-1])


@pytest.mark.timeout(600)
@pytest.mark.seeds(3, long=150)
def test_opening_any_mix_takes_at_most_twice_as_long_as_qemu_img_map(tmp_path: Path, seed: int, rng: Random) -> None:
    layers = [draw(rng, list(Filling), [1000, 10_000, 50_000], SIZES) for _ in range(rng.choice([1, 2, 2, 3, 5]))]
    paths = write_layers(tmp_path, layers)
    try:
        prove_quick(paths, rng.choice(paths))
    except BaseException as error:
        error.add_note(str(layers))
        raise


@pytest.mark.timeout(600)
@pytest.mark.seeds(8, long=200)
def test_any_mix_is_read_as_by_qemu(tmp_path: Path, seed: int, rng: Random) -> None:
    """Of small disks, or of large ones with little on them: all their data are compared."""
    small = rng.random() < 0.5
    fillings = list(Filling) if small else [Filling.FAR, Filling.NOTHING, Filling.HOLLOW, Filling.ZEROS]
    sizes = [MIB, 16 * MIB, 64 * MIB] if small else [GIB, 100 * GIB, 2 * TIB]
    layers = [draw(rng, fillings, [20, 200, 5000], sizes) for _ in range(rng.choice([1, 2, 2, 3, 4]))]
    paths = write_layers(tmp_path, layers)
    size = oracle.virtual_size(paths[0])
    cluster_size = rng.choice([None, *(each for each in OUTPUT_CLUSTERS if size // (each * each // 8) < 1 << 16)])
    base = rng.choice(paths)
    try:
        for below, name in (None, "full"), (base, "delta"):
            output = tmp_path / f"{name}-output.qcow2"
            with vdifs.open(paths[0], base=below, cluster_size=cluster_size) as image:
                copy_in_pieces(image, output, rng)
            oracle.check(output)
            oracle.compare(output, paths[0])
    except BaseException as error:
        error.add_note(f"{layers} {cluster_size=} {base=}")
        raise
