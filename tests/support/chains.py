"""Random chains of images, made by qemu-img and qemu-io from a seed.

    make_chain(folder, seed)  ->  SourceChain: images top first, and the recipe that made them

A chain grows from its base up. Every image gets a few operations from OPERATIONS; then some images below the top get
more, as if a guest had worked on a backing file (what QEMU makes of that is the chain's meaning, right or wrong);
then SURGERY changes files in ways that QEMU's tools do not. A new feature of the format is one more function in
OPERATIONS (drafts.py) or in `creation_options`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.support import oracle, surgery
from tests.support.builder import make
from tests.support.drafts import OPERATIONS, Draft, Format, Operation, log_uniform, resize, write_compressed
from tests.support.units import GIB, KIB, MIB, SECTOR, sectors_up


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One finished image of a chain."""

    path: Path
    format: Format
    cluster_size: int | None  # None: raw
    virtual_size: int


@dataclass(frozen=True, slots=True)
class SourceChain:
    """A finished chain, top first, all of it beneath `folder`."""

    seed: int
    folder: Path
    images: tuple[SourceImage, ...]
    recipe: tuple[str, ...]

    def standalone(self, image: int) -> bool:
        """Tell whether vdifs takes the file for an image by itself: a raw one only if it is called so."""
        source = self.images[image]
        return source.format == "qcow2" or source.path.suffix in (".raw", ".img")

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (image, base) for each image with itself and with each of its ancestors, as indices."""
        for image in range(len(self.images)):
            for base in range(image, len(self.images)):
                yield image, base

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add the seed and the recipe to any failure inside."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"chain of seed {self.seed} in {self.folder}:\n" + "\n".join(self.recipe))
            raise


@dataclass(frozen=True, slots=True)
class Shape:
    """What chains a test wants."""

    depth: range = range(1, 9)
    largest_disk: int = 2 * GIB
    raw_bases: bool = True
    absolute_names: bool = True
    resizes: bool = True  # or all images are of one size
    compressed: bool = False
    extended_l2: bool = False


def operate(rng: Random, draft: Draft, hot: Sequence[int], count: int, shape: Shape) -> None:
    chosen = rng.choices(*operations_for(shape), k=count)
    for operation in sorted(chosen, key=lambda operation: operation is not write_compressed):
        draft.fresh &= operation is write_compressed
        operation(rng, draft, hot)
    draft.fresh = False
    draft.flush()


def operations_for(shape: Shape) -> tuple[list[Operation], list[int]]:
    """Return what may be done to images of a shape, and how often each."""
    unwanted = [name for name, wanted in [(resize, shape.resizes), (write_compressed, shape.compressed)] if not wanted]
    chosen = {name: weight for name, weight in OPERATIONS.items() if name not in unwanted}
    return list(chosen), list(chosen.values())


# How an image begins.


def make_chain(folder: Path, seed: int, shape: Shape = Shape()) -> SourceChain:
    """Make the chain of `seed` in `folder`, which must not exist; equal seeds and shapes give equal chains."""
    workshop = Workshop.opened(folder, Random(seed), shape)
    drafts = workshop.grow()
    workshop.work_on_backing_files(drafts)
    for draft in drafts:
        operate_on_file(workshop.rng, draft)
    return SourceChain(seed, folder, tuple(finished(draft) for draft in reversed(drafts)), tuple(workshop.recipe))


def finished(draft: Draft) -> SourceImage:
    cluster_size = draft.cluster_size if draft.format == "qcow2" else None
    return SourceImage(draft.path, draft.format, cluster_size, sectors_up(draft.size))


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the images of one chain share while they are made."""

    rng: Random
    shape: Shape
    names: "Names"
    scratch: Path
    recipe: list[str]

    @classmethod
    def opened(cls, folder: Path, rng: Random, shape: Shape) -> "Workshop":
        scratch = folder.parent / f"{folder.name}.scratch"
        folder.mkdir()
        scratch.mkdir()
        return cls(rng, shape, Names(rng, folder, shape), scratch, [])

    def grow(self) -> list[Draft]:
        """Make the images, base first, each with some operations."""
        size = disk_size(self.rng, self.shape.largest_disk)
        hot = [self.rng.randrange(max(size, 1)) for _ in range(4)]
        drafts: list[Draft] = []
        for level in range(self.rng.choice(self.shape.depth)):
            drafts.append(self.overlay(level, drafts[-1], size) if drafts else self.base(size))
            operate(self.rng, drafts[-1], hot, self.rng.randint(0, 7), self.shape)
            if self.shape.resizes:
                size = overlay_size(self.rng, drafts[-1].size, self.shape.largest_disk)
        return drafts

    def work_on_backing_files(self, drafts: list[Draft]) -> None:
        """Change some images that others have for a backing file already."""
        for draft in drafts[:-1]:
            if self.rng.random() < 0.25:
                hot = [self.rng.randrange(max(draft.size, 1)) for _ in range(4)]
                operate(self.rng, draft, hot, self.rng.randint(1, 3), self.shape)

    def base(self, size: int) -> Draft:
        if self.shape.raw_bases and self.rng.random() < 0.3:
            return self.raw_base(size)
        return self.overlay(0, None, size)

    def raw_base(self, size: int) -> Draft:
        """A raw file of any length, all of it a hole."""
        if self.shape.resizes:
            size = max(size - self.rng.choice([0, 0, self.rng.randrange(SECTOR), self.rng.randrange(64 * KIB)]), 0)
        path = self.names.next(self.rng, 0, self.rng.choice([".raw", ".img", ".bin"]))
        path.touch()
        draft = Draft(path, 0, "raw", 3, 64 * KIB, 0, None, self.scratch, self.recipe)
        draft.resize(size)
        draft.fresh = False
        return draft

    def overlay(self, level: int, backing: Draft | None, size: int) -> Draft:
        """A qcow2 image; the base of the chain when `backing` is None."""
        path, version, cluster_size = self.names.next(self.rng, level, ".qcow2"), 3, 1 << self.rng.randint(9, 21)
        if self.rng.random() < 0.25:
            version = 2
        draft = Draft(path, level, "qcow2", version, cluster_size, size, backing, self.scratch, self.recipe)
        options = creation_options(self.rng, version, cluster_size, self.shape) | {"cluster_size": cluster_size}
        preallocation = self.rng.choices(["off", "metadata", "falloc", "full"], [12, 1, 1, 1])[0]
        name = self.names.of_backing(self.rng, draft)
        if preallocation == "off" or size > 64 * MIB:
            create(draft, options, name)
        else:
            create_preallocated(draft, options | {"preallocation": preallocation}, name)
        return draft


def disk_size(rng: Random, largest: int) -> int:
    """Return a virtual size in sectors: mostly small, at times none or more than a gigabyte (sparse)."""
    kind = rng.choices(["none", "tiny", "small", "middle", "large"], [1, 2, 12, 3, 2])[0]
    low, high = {
        "none": (0, 0),
        "tiny": (SECTOR, 16 * SECTOR),
        "small": (64 * KIB, 16 * MIB),
        "middle": (16 * MIB, 64 * MIB),
        "large": (GIB, GIB * 3 // 2),
    }[kind]
    size = log_uniform(rng, low, high) if low else 0
    grain = rng.choice([SECTOR, 64 * KIB if size >= 64 * KIB else SECTOR])
    return min(-(-size // grain) * grain, largest)


def overlay_size(rng: Random, size: int, largest: int) -> int:
    """Return the size of an overlay: mostly its backing file's, at times longer or shorter."""
    longer = size + log_uniform(rng, SECTOR, 2 * MIB)
    shorter = size - log_uniform(rng, 1, size) if size else 0
    return min(sectors_up(rng.choices([size, longer, shorter], [6, 2, 2])[0]), largest)


def creation_options(rng: Random, version: int, cluster_size: int, shape: Shape) -> dict[str, object]:
    if version == 2:
        return {"compat": "0.10"}
    options: dict[str, object] = {"compat": "1.1"}
    if rng.random() < 0.5:
        options["refcount_bits"] = 1 << rng.randint(0, 6)
    if rng.random() < 0.2:
        options["lazy_refcounts"] = "on"
    if shape.compressed and rng.random() < 0.5:
        options["compression_type"] = "zstd"
    if shape.extended_l2 and cluster_size >= 16 * KIB and rng.random() < 0.5:
        options["extended_l2"] = "on"
    return options


def create(draft: Draft, options: dict[str, object], backing: tuple[str, Format] | None) -> None:
    draft.recipe.append(f"qemu-img create {draft.path.name} {draft.size}: {options}, backing {backing}")
    make(draft.path, draft.size, backing=backing, **options)


def create_preallocated(draft: Draft, options: dict[str, object], backing: tuple[str, Format] | None) -> None:
    """Create with all clusters allocated. QEMU refuses that for an overlay, but not what rebase makes of it."""
    create(draft, options, None)
    draft.fresh = False
    if backing:
        draft.recipe.append(f"qemu-img rebase -u {draft.path.name}: {backing}")
        oracle.qemu_img("rebase", "-u", "-b", backing[0], "-F", backing[1], draft.path)


class Names:
    """Where the images of a chain lie, what they are called and how they call each other."""

    def __init__(self, rng: Random, folder: Path, shape: Shape) -> None:
        self.folder = folder
        self.folders = rng.choices([[""], ["", "vms", "templates/linux"]], [3, 1])[0]
        self.pattern = rng.choices(["{}", "disk {}", "größe%41 {}", "x:{}", "same"], [12, 1, 1, 1, 1])[0]
        if self.pattern == "same":
            self.folders = [f"level{level}" for level in range(8)]
        self.absolute = rng.random() < 0.2 and shape.absolute_names

    def next(self, rng: Random, level: int, suffix: str) -> Path:
        inner = self.folders[level] if self.pattern == "same" else rng.choice(self.folders)
        folder = self.folder / inner
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (self.pattern.format(level) + suffix)

    def of_backing(self, rng: Random, draft: Draft) -> tuple[str, Format] | None:
        """Return the backing file's name as the image will state it, and its format."""
        if draft.backing is None:
            return None
        path = draft.backing.path
        if self.absolute and rng.random() < 0.7:
            return str(path), draft.backing.format
        name = os.path.relpath(path, draft.path.parent)
        has_protocol = ":" in name.partition("/")[0]
        return f"./{name}" if has_protocol else name, draft.backing.format


# What happens to finished files.


def operate_on_file(rng: Random, draft: Draft) -> None:
    """Perhaps change the file in ways that leave the image valid."""
    if draft.format == "raw":
        return
    if rng.random() < 0.1:
        note(draft, "punch_hole")
        surgery.punch_hole(draft.path, rng)
    if rng.random() < 0.1:
        note(draft, "dig_holes")
        surgery.dig_holes(draft.path)
    if rng.random() < 0.15:
        note(draft, "cut_last_cluster")
        surgery.cut_last_cluster(draft.path, draft.cluster_size, rng)
    if rng.random() < 0.25 and draft.size % bytes_per_l2_table(draft.cluster_size):
        odd = draft.size + rng.randrange(1, SECTOR)
        note(draft, f"virtual_size_in_header {odd}")
        surgery.virtual_size_in_header(draft.path, odd)
    if rng.random() < 0.25 and draft.backing and draft.backing.format == "qcow2":
        note(draft, "forget_backing_format")
        surgery.forget_backing_format(draft.path)


def note(draft: Draft, what: str) -> None:
    draft.recipe.append(f"surgery {draft.path.name}: {what}")


def bytes_per_l2_table(cluster_size: int) -> int:
    """Return how much of the disk an L1 entry is for, or half of it but with extended L2: past a multiple of that the
    L1 table would be too small.
    """
    return cluster_size * (cluster_size // 16)
