"""The feature matrix: which combinations can exist, which 150 of them stand for the rest, and the images of each.

base         raw or qcow2, perhaps shorter or longer than the image, perhaps not there
image        of the combination: cluster size, version, what its clusters are, virtual size
top          an overlay in clusters of another size, which hides the image in part
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tests.support import builder, oracle, surgery
from tests.support.drafts import (
    Draft,
    Operation,
    discard,
    write_compressed,
    write_data,
    write_zero_bytes,
    write_zeros,
    write_zeros_and_unmap,
)
from tests.support.units import GIB, KIB, SECTOR, sectors_up

Clusters = Literal["plain", "deflate", "zstd", "extended_l2", "zeros", "preallocated"]
Size = Literal["odd", "exact", "none", "huge"]
Backing = Literal["none", "raw", "qcow2", "shorter", "longer", "odd"]

CLUSTER_BITS = range(9, 22)
VERSIONS = (2, 3)
CLUSTERS: tuple[Clusters, ...] = ("plain", "deflate", "zstd", "extended_l2", "zeros", "preallocated")
SIZES: tuple[Size, ...] = ("odd", "exact", "none", "huge")
BACKINGS: tuple[Backing, ...] = ("none", "raw", "qcow2", "shorter", "longer", "odd")

STEPS: dict[Clusters, list[Operation]] = {
    "plain": [write_data] * 5,
    "deflate": [*[write_compressed] * 4, *[write_data] * 2, write_zeros],
    "zstd": [*[write_compressed] * 4, *[write_data] * 2, discard],
    "extended_l2": [*[write_compressed] * 2, *[write_data] * 4, write_zeros, write_zeros_and_unmap, discard],
    "zeros": [*[write_data] * 3, *[write_zeros] * 2, *[write_zeros_and_unmap] * 2, discard, write_zero_bytes],
    "preallocated": [*[write_data] * 2, write_zeros, discard],
}
ON_TOP: list[Operation] = [*[write_data] * 2, write_zeros, discard]


@dataclass(frozen=True, slots=True)
class Combination:
    """One point of the matrix."""

    cluster_bits: int
    version: int
    clusters: Clusters
    size: Size
    backing: Backing

    def __str__(self) -> str:
        return f"{1 << self.cluster_bits}-v{self.version}-{self.clusters}-{self.size}-on-{self.backing}"

    @property
    def exists(self) -> bool:
        """Tell whether QEMU can make it."""
        if self.version == 2 and self.clusters in ("zstd", "extended_l2", "zeros"):
            return False
        if self.clusters == "extended_l2" and self.cluster_bits < 14:
            return False
        return not (self.size == "none" and self.backing == "shorter")

    @property
    def coverage(self) -> int:
        """Bytes of disk that an L2 table maps."""
        cluster_size = 1 << self.cluster_bits
        return cluster_size * cluster_size // (16 if self.clusters == "extended_l2" else 8)


def all_combinations() -> list[Combination]:
    points = itertools.product(CLUSTER_BITS, VERSIONS, CLUSTERS, SIZES, BACKINGS)
    return [combination for point in points if (combination := Combination(*point)).exists]


def spread(count: int) -> list[Combination]:
    """Return `count` combinations in which each two values that can meet do; always the same ones."""
    shuffled = sorted(all_combinations(), key=lambda c: hashlib.sha256(str(c).encode()).digest())
    candidates = [(combination, set(pairs(combination))) for combination in shuffled]
    missing = set().union(*(met for _, met in candidates))
    chosen: list[Combination] = []
    while missing:
        best, met = max(candidates, key=lambda candidate: len(missing & candidate[1]))
        chosen.append(best)
        missing -= met
    others = (combination for combination in shuffled if combination not in chosen)
    return [*chosen, *itertools.islice(others, count - len(chosen))]


def pairs(combination: Combination) -> Iterator[tuple[tuple[int, object], ...]]:
    """Yield each two of the values, with their places."""
    return itertools.combinations(enumerate(astuple(combination)), 2)


@dataclass(frozen=True, slots=True)
class Images:
    """The finished files of a combination, and how they were made."""

    base: Path | None
    base_format: str
    image: Path
    top: Path
    recipe: tuple[str, ...]


def make(combination: Combination, folder: Path) -> Images:
    """Make the images in `folder`; equal combinations give equal images."""
    return Maker(combination, folder).make()


class Maker:
    """Makes the images of one combination. Its generator is seeded with the combination's name."""

    def __init__(self, combination: Combination, folder: Path) -> None:
        self.combination = combination
        self.folder = folder
        self.rng = Random(str(combination))
        self.scratch = folder.with_name(f"{folder.name}.scratch")
        self.recipe: list[str] = []
        self.odd_bytes = 0
        self.size = self.virtual_size()
        self.hot = self.preferred_places()

    def make(self) -> Images:
        self.folder.mkdir()
        self.scratch.mkdir()
        base = None if self.combination.backing == "none" else self.base()
        image = self.image(base)
        top = self.top(image)
        if self.odd_bytes:
            surgery.virtual_size_in_header(image.path, image.size + self.odd_bytes)
        base_path, base_format = (base.path, base.format) if base else (None, "")
        return Images(base_path, base_format, image.path, top.path, tuple(self.recipe))

    def virtual_size(self) -> int:
        """Choose a virtual size: a few clusters, which span some L2 tables if these are small, or very many."""
        bits = self.combination.cluster_bits
        whole = max(6, 256 * KIB >> bits) << bits
        match self.combination.size:
            case "none":
                return 0
            case "exact":
                return whole
            case "huge":
                return min(self.combination.coverage << 14, 256 * GIB) - self.rng.choice([0, 1, 7]) * 64 * KIB
            case "odd":
                self.odd_bytes = self.rng.choice([0, self.rng.randrange(1, SECTOR)]) if bits > 9 else 200
                return whole + SECTOR * self.rng.randrange(1, max(2, 1 << bits - 9))

    def preferred_places(self) -> list[int]:
        """Return where all images write: the start, the middle, the end, and where an L2 table ends."""
        coverage, last = self.combination.coverage, max(self.size - 1, 0)
        anywhere = self.rng.randrange(last + 1)
        return [min(place, last) for place in (0, coverage - SECTOR, coverage * 2, anywhere, last)]

    def base(self) -> Draft:
        size, is_raw = self.base_size()
        if is_raw:
            path = self.folder / "base.raw"
            path.touch()
            draft = Draft(path, 0, "raw", 3, 64 * KIB, 0, None, self.scratch, self.recipe)
            draft.resize(size)
        else:
            cluster_size = self.other_cluster_size(5)
            draft = self.created("base", sectors_up(size), cluster_size, None, {"cluster_size": cluster_size})
        self.operate(draft, [write_data, write_data, write_data, discard if is_raw else write_zeros, write_data])
        if draft.size > self.size:  # which must not show through where an image on top is longer again
            draft.write(self.size, draft.size - self.size)
            draft.flush()
        if self.combination.backing == "odd" and draft.format == "qcow2":
            surgery.virtual_size_in_header(draft.path, draft.size + 300)
        return draft

    def base_size(self) -> tuple[int, bool]:
        """Return the virtual size of the base, and whether it is raw."""
        near = self.rng.randrange(1, max(2, min(self.size, 256 * KIB)))
        either = self.rng.random() < 0.5
        match self.combination.backing:
            case "shorter":
                return max(sectors_up(self.size - near) - SECTOR, 0), either
            case "longer":
                return self.size + sectors_up(near), either
            case "odd":
                return self.size // 1024 * 512 + 512 + (317 if either else 0), either
            case _:
                return self.size, self.combination.backing == "raw"

    def image(self, base: Draft | None) -> Draft:
        """Make the image that the combination describes."""
        it = self.combination
        cluster_size = 1 << it.cluster_bits
        options: dict[str, object] = {"cluster_size": cluster_size, "compat": "0.10" if it.version == 2 else "1.1"}
        if it.clusters == "zstd" or (it.clusters == "extended_l2" and self.rng.random() < 0.5):
            options["compression_type"] = "zstd"
        if it.clusters == "extended_l2" or (it.clusters == "preallocated" and self.preallocates_subclusters()):
            options["extended_l2"] = "on"
        if it.clusters in ("deflate", "zstd") and self.rng.random() < 0.3:
            return self.converted(cluster_size, base, options)
        if it.clusters == "preallocated":
            return self.preallocated(cluster_size, base, options)
        draft = self.created("image", self.size, cluster_size, base, options)
        self.operate(draft, STEPS[it.clusters])
        return draft

    def preallocates_subclusters(self) -> bool:
        it = self.combination
        return it.version == 3 and it.cluster_bits >= 14 and self.rng.random() < 0.5

    def converted(self, cluster_size: int, base: Draft | None, options: dict[str, object]) -> Draft:
        """Make an image of which every cluster is compressed, by `qemu-img convert -c`; then write some more."""
        plain = self.created("plain", self.size, 64 * KIB, base, {})
        self.operate(plain, STEPS["plain"])
        draft = self.draft("image", self.size, cluster_size, base)
        over = ["-B", base.path.name, "-F", base.format] if base else []
        chosen = ",".join(f"{name}={value}" for name, value in options.items())
        words = ["convert", "-c", "-f", "qcow2", "-O", "qcow2", *over, "-o", chosen, plain.path.name, draft.path.name]
        self.recipe.append(f"qemu-img {' '.join(words)}")
        oracle.qemu_img(*words, cwd=self.folder)
        draft.writes = plain.writes
        self.operate(draft, [write_data])
        return draft

    def preallocated(self, cluster_size: int, base: Draft | None, options: dict[str, object]) -> Draft:
        """Make an image of which every cluster has its place: with subclusters the base shows nevertheless.

        QEMU does not preallocate other overlays, but `rebase -u` makes some. A huge disk has been a small one first,
        before it got its base: else QEMU would write zeros over all of that.
        """
        size = min(self.size, max(6, 256 * KIB // cluster_size) * cluster_size)
        options["preallocation"] = self.rng.choice(["metadata", "falloc", "full"])
        below = None
        if "extended_l2" in options and size == self.size:
            below, options["preallocation"] = base, "metadata"
        draft = self.created("image", size, cluster_size, below, options)
        if size < self.size:
            draft.resize(self.size)
        draft.flush()
        if base and not below:
            self.recipe.append("qemu-img rebase -u image.qcow2")
            oracle.qemu_img("rebase", "-u", "-b", base.path.name, "-F", base.format, draft.path)
            draft.backing = base
        self.operate(draft, STEPS["preallocated"])
        return draft

    def top(self, image: Draft) -> Draft:
        """Make an overlay in clusters of another size, at times longer."""
        longer = self.combination.backing in ("longer", "odd") or self.rng.random() < 0.3
        size = image.size + 64 * KIB if longer else image.size
        cluster_size = self.other_cluster_size(3)
        draft = self.created("top", size, cluster_size, image, {"cluster_size": cluster_size})
        self.operate(draft, ON_TOP)
        return draft

    def other_cluster_size(self, step: int) -> int:
        """Return another cluster size, large enough for the disk."""
        bits = CLUSTER_BITS[(self.combination.cluster_bits - CLUSTER_BITS.start + step) % len(CLUSTER_BITS)]
        while (1 << bits) ** 2 // 8 << 13 < self.size:
            bits += 1
        return 1 << bits

    def created(
        self, name: str, size: int, cluster_size: int, backing: Draft | None, options: dict[str, object]
    ) -> Draft:
        draft = self.draft(name, size, cluster_size, backing)
        over = (backing.path.name, backing.format) if backing else None
        self.recipe.append(f"qemu-img create {name}.qcow2 {size}: {options}, backing {over}")
        builder.make(draft.path, size, backing=over, **options)
        return draft

    def draft(self, name: str, size: int, cluster_size: int, backing: Draft | None) -> Draft:
        level = ["base", "plain", "image", "top"].index(name)
        version = self.combination.version if name == "image" else 3
        path = self.folder / f"{name}.qcow2"
        return Draft(path, level, "qcow2", version, cluster_size, size, backing, self.scratch, self.recipe)

    def operate(self, draft: Draft, steps: list[Operation]) -> None:
        for step in steps:
            draft.fresh &= step is write_compressed
            step(self.rng, draft, self.hot)
        draft.flush()
