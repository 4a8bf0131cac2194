"""A disk as a strip of cells, and which layer owns each. Pure: runs in, values out.

runs     |--A--|----B----|  nothing   |-A-|----------B---------|
cells    |  A  |  B  |  B  |  .  |  .  |  a  |  B  |  B  |  B  |     a: A has the most of it, yet not half
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vdifs.report.map import MapRun
from vdifs.units import SECTOR, round_up

__all__ = ["NOTHING", "Cell", "Owner", "Strip", "color"]

NOTHING = -1
_PALETTE = ("#56b4e9", "#e69f00", "#2fbf8f", "#f0e442", "#cc79a7", "#f08040", "#7fa8ff", "#b0b0b0")
"""Told apart by those who do not see all colours; black is legible on each."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A layer in the legend; the last of very many stands for all those below it. Bytes of the disk that are its."""

    key: str
    files: tuple[str, ...]
    data: int
    zeros: int

    @property
    def label(self) -> str:
        """What the legend calls it."""
        return self.files[0] if len(self.files) == 1 else f"{len(self.files)} files below"


class Cell(NamedTuple):
    """One cell. owner: index of the owner that has the most of it, or NOTHING. whole: it has at least half."""

    owner: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Strip:
    """A disk of `size` bytes in cells of `cell_size`. owners: top first."""

    size: int
    cell_size: int
    cells: tuple[Cell, ...]
    owners: tuple[Owner, ...]

    @classmethod
    def of(cls, runs: Iterable[MapRun], files: Sequence[str], size: int, cells: int) -> Self:
        """Return the strip of a disk of `size` bytes in at most so many cells. files: the layers that runs may name."""
        cell_size = round_up(max(-(-size // cells), 1), SECTOR)
        owned = np.zeros((-(-size // cell_size), len(ascii_uppercase)), np.int64)
        totals = np.zeros((len(ascii_uppercase), 2), np.int64)
        for run in runs:
            if run.present:
                owner = min(run.depth, len(ascii_uppercase) - 1)
                totals[owner, 0 if run.data else 1] += run.length
                _add(owned[:, owner], run.start, run.start + run.length, cell_size)
        owners = [
            Owner(key, (name,), *map(int, totals[index]))
            for index, (key, name) in enumerate(zip(ascii_uppercase, files, strict=False))
        ]
        if len(files) > len(owners):
            owners[-1] = Owner(owners[-1].key, tuple(files[len(owners) - 1 :]), owners[-1].data, owners[-1].zeros)
        return cls(size, cell_size, _cells(owned, size, cell_size), tuple(owners))

    @property
    def nothing(self) -> int:
        """Bytes of the disk that no layer holds."""
        return self.size - sum(owner.data + owner.zeros for owner in self.owners)


def color(owner: int) -> str:
    """Return the colour of an owner, in the web's notation."""
    return _PALETTE[owner % len(_PALETTE)]


def _add(owned: NDArray[np.int64], start: int, end: int, cell_size: int) -> None:
    """Add the bytes from `start` to `end` to the cells in which they lie."""
    first, last = start // cell_size, (end - 1) // cell_size
    if first == last:
        owned[first] += end - start
        return
    owned[first] += (first + 1) * cell_size - start
    owned[first + 1 : last] += cell_size
    owned[last] += end - last * cell_size


def _cells(owned: NDArray[np.int64], size: int, cell_size: int) -> tuple[Cell, ...]:
    most = owned.argmax(axis=1)
    held = owned.max(axis=1)
    length = np.minimum(cell_size, size - np.arange(len(owned)) * cell_size)
    owner = np.where(held > 0, most, NOTHING)
    return tuple(map(Cell, owner.tolist(), (2 * held >= length).tolist()))
