"""Check, list, export and read chains of layers of any grain, size and sparseness: each costs what is on disk.

QEMU is the measure: what it needs for the same, or to look at the same tables, both in seconds of processor time. It is
asked only where more than the floor was taken.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.qemu.test_mixes import CHAINS, LEAST_S, SIZES, TIB, TIMES, draw, seconds_of_map
from tests.support import oracle
from tests.support.mixes import Filling, Mixed, write_layers
from tests.support.units import GIB, MIB
from vdifs.catalog.catalog import Catalog
from vdifs.output.export.exporting import export
from vdifs.output.process_caches import summary_cache, window_cache
from vdifs.output.view import View
from vdifs.report.audit import audit
from vdifs.report.list import survey

READS = 50
MOST_COPIED = 128 * MIB
KINDS = ["raw", "full", "delta"]


def seconds_of(function: Callable[[], object]) -> float:
    """Return the processor time that this process and its children take; the less of two, as machines are busy."""
    found = []
    for _ in range(2):
        summary_cache.start_anew()
        window_cache.start_anew()
        before = os.times()
        function()
        after = os.times()
        found.append(sum(after[:4]) - sum(before[:4]))
        if found[0] <= LEAST_S:
            break
    return min(found)


def prove_quick(what: str, function: Callable[[], object], by_qemu: Callable[[], float]) -> None:
    """Compare what a function takes with the seconds that QEMU takes."""
    taken = seconds_of(function)
    if taken > LEAST_S:
        most = TIMES * by_qemu()
        assert taken <= most, f"{what}: {taken:.2f} s, {most:.2f} s allowed"


def check(folder: Path) -> None:
    with closing(Catalog(str(folder))) as catalog:
        catalog.scan()
        catalog.check_images()
        for entry in catalog.entries.values():
            audit(catalog.policy, entry.file_path, entry.snapshot, stated=entry.format)


def list_all(folder: Path) -> None:
    with closing(Catalog(str(folder))) as catalog:
        catalog.scan()
        catalog.check_images()
        assert not [image for image in survey(catalog).values() if image.problem]


def read_here_and_there(image: Path, view: View) -> None:
    rng = Random(1)
    with vdifs.open(image, view=view) as opened:
        for _ in range(READS):
            opened.read_at(rng.randrange(opened.size), 4096)


def seconds_of_maps(paths: list[Path]) -> float:
    """Return what the tables of every layer take, also of one that is hidden by those above it."""
    return sum(map(seconds_of_map, paths))


def convert(image: Path, words: Sequence[str | Path]) -> float:
    output = image.with_name("output")
    before = os.times()
    subprocess.run(["qemu-img", "convert", *words, image, output], check=True, env=oracle.environment())
    after = os.times()
    output.unlink()
    return after.children_user + after.children_system - before.children_user - before.children_system


def prove_looked_at_quickly(paths: list[Path]) -> None:
    folder, top = paths[0].parent, paths[0]
    prove_quick("check", lambda: check(folder), lambda: seconds_of_maps(paths))
    prove_quick("list", lambda: list_all(folder), lambda: seconds_of_maps(paths))
    prove_quick("reads of the disk", lambda: read_here_and_there(top, "raw"), lambda: seconds_of_map(top))
    prove_quick("reads of the image", lambda: read_here_and_there(top, "qcow2"), lambda: seconds_of_map(top))


def prove_copied_quickly(top: Path, base: Path, cluster_bits: int, kinds: Sequence[str] = KINDS) -> None:
    """Export the disk, the image, and the delta, as far as what is copied is not much.

    Of a delta QEMU copies the top layer alone, whatever the base is: less than is asked of vdifs.
    """
    output = top.with_name("output")
    as_qcow2: list[str | Path] = ["-O", "qcow2", "-o", f"cluster_size={1 << cluster_bits}"]
    words: dict[str, list[str | Path]] = {
        "raw": ["-O", "raw"],
        "full": as_qcow2,
        "delta": [*as_qcow2, "-B", base, "-F", "qcow2"],
    }
    for kind in kinds:
        view: View = "raw" if kind == "raw" else "qcow2"
        below = base if kind == "delta" else None
        open_it = partial(vdifs.open, top, view=view, base=below)
        with open_it() as image:
            much = (image.allocated if view == "raw" else image.size) > MOST_COPIED
            too_long = image.size > 15 * TIB  # for a file on ext4
        if much or too_long:
            continue

        def write_out(open_it: Callable[[], vdifs.Image]) -> None:
            with open_it() as image:
                export(image, str(output), overwrite=True)
            output.unlink()

        prove_quick(f"export of {kind}", partial(write_out, open_it), partial(convert, top, words[kind]))


LOOKED_AT = [name for name in CHAINS if name != "many layers far apart"]  # of which QEMU takes a minute


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*LOOKED_AT, pytest.param("many layers far apart", marks=pytest.mark.long)])
def test_looking_at_a_mix_takes_at_most_twice_as_long_as_qemu_img_map(tmp_path: Path, name: str) -> None:
    prove_looked_at_quickly(write_layers(tmp_path, CHAINS[name]))


COPIED: dict[str, tuple[list[str], list[Mixed]]] = {
    "the smallest clusters far apart": (["raw"], [Mixed(9, False, 64 * GIB, Filling.FAR, 5000)]),
    "subclusters far apart below coarse clusters": (["raw", "full"], [
        Mixed(16, False, 4 * TIB, Filling.FAR, 100),
        Mixed(14, True, 64 * GIB, Filling.FAR, 1000),
    ]),
    "a delta ends in terabytes of zeros": (["raw", "delta"], [
        Mixed(21, False, 8 * TIB, Filling.FAR, 4),
        Mixed(16, False, GIB, Filling.NOTHING, 0),
        Mixed(21, False, 8 * TIB, Filling.FAR, 4),
    ]),
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", COPIED)
def test_exporting_a_mix_takes_at_most_twice_as_long_as_qemu_img_convert(tmp_path: Path, name: str) -> None:
    kinds, layers = COPIED[name]
    paths = write_layers(tmp_path, layers)
    prove_copied_quickly(paths[0], paths[-1], layers[0].cluster_bits, kinds)


def test_a_disk_of_small_clusters_far_apart_is_copied_in_few_parts(tmp_path: Path) -> None:
    """Each part is looked for alone."""
    (path,) = write_layers(tmp_path, [Mixed(9, False, 64 * GIB, Filling.FAR, 5000)])
    with vdifs.open(path, view="raw") as image:
        regions = list(image.regions())
    pieces = [region.pieces for region in regions]
    assert sum(len(each.out) for each in pieces if each is not None) == 5000
    assert len(regions) < 50


@pytest.mark.timeout(600)
@pytest.mark.seeds(3, long=100)
def test_any_mix_is_looked_at_and_copied_in_time(tmp_path: Path, seed: int, rng: Random) -> None:
    layers = [draw(rng, list(Filling), [1000, 10_000], SIZES) for _ in range(rng.choice([1, 2, 2, 3, 5]))]
    paths = write_layers(tmp_path, layers)
    try:
        prove_looked_at_quickly(paths)
        prove_copied_quickly(paths[0], paths[min(1, len(paths) - 1)], layers[0].cluster_bits)
    except BaseException as error:
        error.add_note(str(layers))
        raise
