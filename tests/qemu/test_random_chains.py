"""Random chains: each full image, each delta and each raw view is, to QEMU, what the source is."""

import os
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

import vdifs
from tests.support import oracle, stamps
from tests.support.allocation import SourceAllocation, data_is_in_guest_order, held_clusters, seek_data, unlike
from tests.support.chains import Shape, SourceChain, make_chain
from tests.support.copying import copy_in_pieces
from tests.support.units import KIB, MIB

DEFAULT_CLUSTER_SIZE = 64 * KIB
PACKED: tuple[Literal["keep", "expand"], ...] = ("expand", "keep")
ZSTD = 1 << 3
"""The incompatible feature of a file with zstd clusters."""


@pytest.mark.seeds(40, long=300)
@pytest.mark.timeout(600)
def test_all_files_of_a_random_chain_are_what_qemu_reads_from_it(tmp_path: Path, seed: int, rng: Random) -> None:
    prove_all_files(make_chain(tmp_path / "source", seed), tmp_path / "tree", rng)


@pytest.mark.seeds(10, long=100)
@pytest.mark.timeout(600)
def test_all_files_of_a_chain_with_compressed_clusters_and_subclusters_are_what_qemu_reads_from_it(
    tmp_path: Path, seed: int, rng: Random
) -> None:
    shape = Shape(depth=range(2, 6), largest_disk=32 * MIB, compressed=True, extended_l2=True)
    prove_all_files(make_chain(tmp_path / "source", seed, shape), tmp_path / "tree", rng)


def prove_all_files(chain: SourceChain, root: Path, rng: Random) -> None:
    """Prove each full image, each raw view and the delta of each image against itself and each of its ancestors."""
    with chain.explained():
        tree = Tree(chain, root, rng)
        for image in range(len(chain.images)):
            if chain.standalone(image):
                tree.prove_full(image)
                tree.prove_raw(image)
            tree.place_base(image)
        for image, base in chain.pairs():
            if chain.standalone(image):
                tree.prove_delta(image, base)


class Tree:
    """The files of a mount, copied out of the library one by one to their places (docs/specification.md 2.1)."""

    def __init__(self, chain: SourceChain, root: Path, rng: Random) -> None:
        self.chain = chain
        self.root = root
        self.rng = rng
        self.source_allocation = SourceAllocation(chain)

    def path(self, image: int) -> str:
        return os.fspath(self.chain.images[image].path.relative_to(self.chain.folder))

    def full(self, image: int) -> Path:
        suffix = ".qcow2" if self.chain.images[image].format == "raw" else ""
        return self.root / "full" / (self.path(image) + suffix)

    def raw(self, image: int) -> Path:
        return self.root / "raw" / (self.path(image) + ".raw")

    def base_beside_deltas(self, base: int) -> Path:
        return self.root / "delta" / self.path(base) / self.path(base)

    def delta(self, image: int, base: int) -> Path:
        name = self.path(image) if image != base else f"{self.path(base)}..{self.chain.images[base].path.name}"
        return self.root / "delta" / self.path(base) / name

    def prove_full(self, image: int) -> None:
        """Prove the full image, and first with every cluster expanded, where some stay packed otherwise."""
        source = self.chain.images[image]
        for packed in PACKED:
            with vdifs.open(source.path, trusted=[self.chain.folder], packed=packed) as opened:
                assert opened.virtual_size == source.virtual_size
                if packed == "expand" and not self.packs(opened, source.path):
                    continue
                file = copy_in_pieces(opened, self.full(image), self.rng)
            assert "backing-filename" not in self.prove_qcow2(file, image, None, packed=opened.packed)

    def packs(self, expanded: vdifs.Image, path: Path, base: Path | None = None) -> bool:
        """Tell whether some clusters may stay packed: then the file is another, else the same."""
        with vdifs.open(path, trusted=[self.chain.folder], base=base) as kept:
            assert (kept.size, kept.allocated) == (expanded.size, expanded.allocated) or kept.packed
            return kept.packed > 0

    def prove_raw(self, image: int) -> None:
        source = self.chain.images[image]
        contents = self.raw_by_qemu(image)
        with vdifs.open(source.path, view="raw", trusted=[self.chain.folder]) as opened:
            assert opened.size == opened.virtual_size == source.virtual_size == contents.stat().st_size
            prove_equal(opened, contents, self.rng)

    def raw_by_qemu(self, image: int) -> Path:
        source, file = self.chain.images[image], self.raw(image)
        return file if file.exists() else oracle.materialize(source.path, file, format=source.format)

    def place_base(self, base: int) -> None:
        """Link the base to where its deltas expect it."""
        beside = self.base_beside_deltas(base)
        beside.parent.mkdir(parents=True, exist_ok=True)
        os.link(self.raw_by_qemu(base) if self.chain.images[base].format == "raw" else self.full(base), beside)

    def prove_delta(self, image: int, base: int) -> None:
        source, below = self.chain.images[image], self.chain.images[base]
        file = self.delta(image, base)
        name = os.path.relpath(self.base_beside_deltas(base), file.parent)
        for packed in PACKED:
            with vdifs.open(
                source.path,
                base=below.path,
                backing_name=None if name == below.path.name else name,
                trusted=[self.chain.folder],
                packed=packed,
            ) as opened:
                assert opened.virtual_size == source.virtual_size
                if packed == "expand" and not self.packs(opened, source.path, below.path):
                    continue
                copy_in_pieces(opened, file, self.rng)
                if image == base:
                    assert opened.allocated == 0
            stated = self.prove_qcow2(file, image, base, packed=opened.packed)
            assert stated["backing-filename"] == (f"./{name}" if ":" in name.partition("/")[0] else name)
            assert stated["backing-filename-format"] == below.format

    def prove_qcow2(self, file: Path, image: int, base: int | None, *, packed: int) -> dict[str, Any]:
        """Prove a synthetic qcow2: valid, the same contents, data where they belong (docs/specification.md 2.2).

        Return what QEMU says of it.

        packed: bytes that packed clusters take in it, of which QEMU's map tells no place.
        """
        source = self.chain.images[image]
        cluster_size = source.cluster_size or DEFAULT_CLUSTER_SIZE
        report = oracle.check(file)
        assert report["image-end-offset"] == file.stat().st_size
        assert bool(report.get("compressed-clusters")) == (packed > 0)
        oracle.compare(file, source.path, right_format=source.format)
        stated = oracle.info(file)
        prove_plain_header(file, stated, cluster_size, zstd=packed > 0)
        extents = oracle.map_of(file)
        held = held_clusters(extents, source.virtual_size, cluster_size)
        problem = unlike(held, self.source_allocation.wanted(image, base, cluster_size))
        assert problem is None, f"{file.relative_to(self.root)}: {problem}"
        assert packed or data_is_in_guest_order(extents, held, cluster_size, file.stat().st_size)
        return stated


def prove_plain_header(file: Path, stated: dict[str, Any], cluster_size: int, *, zstd: bool) -> None:
    """Version 3, 16-bit refcounts, the expected cluster size, no incompatible feature; zstd: but for that one.

    stated: what QEMU says of the file.
    """
    assert stated["cluster-size"] == cluster_size
    details = stated["format-specific"]["data"]
    assert (details["compat"], details["refcount-bits"]) == ("1.1", 16)
    with file.open("rb") as opened:
        incompatible_features = opened.read(80)[72:]
    assert int.from_bytes(incompatible_features, "big") in ({0, ZSTD} if zstd else {0})


def prove_equal(opened: vdifs.Image, contents: Path, rng: Random) -> None:
    """Prove that an image reads like a file; of a large sparse one, its data and a spread of its holes."""
    with contents.open("rb") as file:
        for offset in offsets_to_read(file.fileno(), opened.size, rng):
            problem = stamps.difference(opened.read_at(offset, MIB), os.pread(file.fileno(), MIB, offset), offset)
            assert problem is None, problem


def offsets_to_read(descriptor: int, size: int, rng: Random) -> list[int]:
    everything = range(0, size, MIB)
    if size <= 64 * MIB:
        return list(everything)
    with_data = {offset for start, end in seek_data(descriptor) for offset in range(start // MIB * MIB, end, MIB)}
    return sorted(with_data | set(rng.sample(everything, 50)))
