"""One image of a random chain while it is made, and all that can be done to it by QEMU's tools.

A new feature of the format is one more function in OPERATIONS.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from tests.support import oracle
from tests.support.stamps import stamped
from tests.support.units import GIB, KIB, MIB, SECTOR, sectors_up

MOST_CLUSTERS_AT_ONCE = 1 << 14  # of one operation: half a gigabyte of zeros in clusters of 512 would take seconds

Format = Literal["qcow2", "raw"]


@dataclass(slots=True)
class Draft:
    """One image while it is made. Commands for qemu-io queue up, and `flush` runs them in one process."""

    path: Path
    level: int  # 0 is the base
    format: Format
    version: int
    cluster_size: int
    size: int
    backing: "Draft | None"
    scratch: Path
    recipe: list[str]
    writes: int = 0
    fresh: bool = True  # nothing allocated but compressed clusters
    packed: list[tuple[int, int]] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)

    @property
    def backing_size(self) -> int:
        return sectors_up(self.backing.size) if self.backing else 0

    def next_generation(self) -> int:
        self.writes += 1
        return self.level << 8 | self.writes

    def io(self, command: str) -> None:
        self.queue.append(command)

    def flush(self) -> None:
        if not self.queue:
            return
        self.recipe.append(f"qemu-io {self.path.name}: " + "; ".join(self.queue))
        oracle.qemu_io(self.path, self.queue, cwd=self.scratch)
        self.queue.clear()

    def write(self, start: int, length: int, option: str = "") -> None:
        """Write stamped data; qemu-io takes them from a file."""
        generation = self.next_generation()
        data = stamped(start, length, generation)
        if self.format == "raw":
            self.recipe.append(f"raw {self.path.name}: write {start} {length}")
            write_raw(self.path, start, data)
            return
        (self.scratch / f"{generation:x}").write_bytes(data)
        self.io(f"write {option}-s {generation:x} {start} {length}")

    def resize(self, size: int) -> None:
        if self.format == "raw":
            self.recipe.append(f"raw {self.path.name}: truncate {size}")
            os.truncate(self.path, size)
        else:
            size = sectors_up(size)
            self.io(f"truncate {size}")
        self.size = size


def write_raw(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


# What can be done to an image. Each takes the generator, the image and the places that all images of the chain prefer,
# so that what one writes lies over, beside and across what others wrote.

Operation = Callable[[Random, Draft, Sequence[int]], None]


def write_data(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    if where := region(rng, draft, hot, longest=256 * KIB):
        draft.write(*where)


def write_zero_bytes(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    """Zeros, but allocated and written like any data."""
    if where := region(rng, draft, hot, longest=256 * KIB):
        command(draft, "write -P 0", where)


def write_zeros(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    """A zero write: zero clusters where it covers whole ones; those that had a place keep it."""
    if where := region(rng, draft, hot, longest=zeros_at_once(draft)):
        command(draft, "write -z", where)


def write_zeros_and_unmap(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    if where := region(rng, draft, hot, longest=zeros_at_once(draft)):
        command(draft, "write -z -u", where)


def discard(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    if where := region(rng, draft, hot, longest=zeros_at_once(draft)):
        command(draft, "discard", where)


def resize(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    """Longer or shorter; to a place where something is, or by a little, or by a lot."""
    size = rng.choice(
        [
            draft.size + rng.randint(1, 8) * SECTOR,
            draft.size + log_uniform(rng, SECTOR, 4 * MIB),
            max(draft.size - log_uniform(rng, SECTOR, 4 * MIB), 0),
            min(rng.choice(hot), draft.size),
            draft.size * 3 // 4,
        ]
    )
    if draft.version == 2 and draft.size < size and draft.size < draft.backing_size:
        return  # QEMU cannot hide the longer backing file: version 2 has no zero clusters
    draft.resize(size if draft.format == "raw" else sectors_up(size))


def command(draft: Draft, words: str, where: tuple[int, int]) -> None:
    if draft.format == "qcow2":
        draft.io(f"{words} {where[0]} {where[1]}")
    else:
        draft.recipe.append(f"qemu-io -f raw {draft.path.name}: {words} {where[0]} {where[1]}")
        oracle.qemu_io(draft.path, [f"{words} {where[0]} {where[1]}"], format="raw")


def zeros_at_once(draft: Draft) -> int:
    """Version 2 with a backing file writes zeros as data, so that these stay short there."""
    if draft.version == 2:
        return MIB
    return min(MOST_CLUSTERS_AT_ONCE * draft.cluster_size, GIB)


def write_compressed(rng: Random, draft: Draft, hot: Sequence[int]) -> None:
    """Whole clusters of stamped data, packed; QEMU does that only where nothing is allocated yet."""
    if not draft.fresh or (where := region(rng, draft, hot, longest=256 * KIB)) is None:
        return
    start = where[0] // draft.cluster_size * draft.cluster_size
    length = min(-(-where[1] // draft.cluster_size) * draft.cluster_size, draft.size - start)
    if all(start + length <= low or start >= high for low, high in draft.packed):
        draft.packed.append((start, start + length))
        draft.write(start, length, "-c ")


OPERATIONS: dict[Operation, int] = {
    write_data: 10,
    write_zero_bytes: 1,
    write_zeros: 3,
    write_zeros_and_unmap: 3,
    discard: 3,
    resize: 2,
    write_compressed: 6,
}


def region(rng: Random, draft: Draft, hot: Sequence[int], *, longest: int) -> tuple[int, int] | None:
    """Choose a guest range (start, length): anywhere, at a preferred place, or at the end; None on an empty disk."""
    size = draft.size // SECTOR * SECTOR if draft.format == "qcow2" else draft.size
    if not size:
        return None
    start = rng.choice([rng.randrange(size), rng.choice(hot), size - log_uniform(rng, 1, size)])
    start = max(0, min(start, size - 1)) // (grain := rng.choice([1, SECTOR, draft.cluster_size])) * grain
    length = log_uniform(rng, 1, longest)
    if rng.random() < 0.5:
        length = -(-length // grain) * grain
    return start, min(length, size - start)


def log_uniform(rng: Random, low: int, high: int) -> int:
    """Return a number of [low, high], each order of magnitude as likely as the next."""
    return min(max(int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))), low), high)
