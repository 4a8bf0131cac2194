"""Which blocks of a disk stay packed in an output, and how close they lie there (docs/specification.md 2.6).

A block stays packed where it is, as a whole, one compressed unit of a source, of the same size, with nothing above it.
Where its packed bytes begin in the source is known from the tables, where they end only to within a sector:

    source   |   sector   |   sector   |   sector   |   sector   |
    unit A        [==========A==========]-----|                        A says: up to the end of its last sector
    unit B                              [======B======]----------|     B begins in that sector

So B is put as far behind A as it is in the source, where the output has A right before it, and to the next sector
elsewhere: what tools have packed without gaps takes no more room than it did. Units lie at the same offset in a sector
as in their source, so each takes as many sectors as there, less one where it begins in the last one of that before it.
What is behind the true end of each is zeros, unless another one lies there.

Pure but for the places of the units, which their layer knows: numpy only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import columns, led_by, then
from vdifs.chain.open_chain import Chain
from vdifs.extents import Extents, Kind
from vdifs.formats.layer import AsIs, Codec
from vdifs.output.window_sums import Runs
from vdifs.units import SECTOR

__all__ = ["PackableUnits", "PackedBlocks", "PackedRuns", "packed_runs"]

_SECTOR_BITS = 9
_LEAST_APART = 64
"""Bytes between the beginnings of two units where the second adds no sector: so a host cluster has no more of them than
a refcount of 16 bits counts, whatever a source claims. A unit takes more in any file that a tool wrote, but the
smallest."""
_CODECS: tuple[Codec, ...] = ("deflate", "zstd")


@dataclass(frozen=True, slots=True, eq=False)
class PackedBlocks:
    """Blocks that stay packed: parallel arrays, in guest order.

    block: int64, the index on the disk. file: int16, of the chain. host: int64, where the packed bytes begin in that
    file. sectors: int64, how many of its sectors they touch at most.
    """

    block: NDArray[np.int64]
    file: NDArray[np.int16]
    host: NDArray[np.int64]
    sectors: NDArray[np.int64]

    @property
    def length(self) -> NDArray[np.int64]:
        """How many bytes each takes at most, up to the end of its last sector: int64."""
        return (self.sectors << _SECTOR_BITS) - (self.host & SECTOR - 1)

    def adds(self, firsts: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return how many sectors each adds to those before it: int64; firsts: those that have none before them."""
        sector = self.host >> _SECTOR_BITS
        stop = sector + self.sectors
        sector += 1
        joins = sector[1:] == stop[:-1]
        joins &= self.host[1:] > self.host[:-1]  # so that they lie in guest order
        within_one = self.sectors[1:] == 1
        if within_one.any():
            joins &= ~within_one | (self.host[1:] >= self.host[:-1] + _LEAST_APART)
        if (self.file != self.file[0]).any():
            joins &= self.file[1:] == self.file[:-1]
        joins[firsts[1:] - 1] = False
        added = self.sectors.copy()
        added[1:] -= joins
        return added

    def offsets(self) -> NDArray[np.int64]:
        """Return where each begins in the bytes that they take together, all of one window: int64."""
        return (self.adds(np.zeros(1, np.intp)).cumsum() << _SECTOR_BITS) - self.length


class PackedRuns(NamedTuple):
    """By window, how many blocks stay packed, and how many sectors they take."""

    blocks: Runs
    sectors: Runs


def packed_runs(blocks: PackedBlocks, per_window: int, cuts: int) -> PackedRuns:
    """Return what the windows have of `blocks`, at least one. per_window, cuts: as for count_by_window."""
    window = blocks.block // per_window
    firsts = np.flatnonzero(led_by(True, window[1:] != window[:-1]))
    window = window[firsts] + cuts
    count = np.diff(then(firsts, len(blocks.block)))
    one = np.ones_like(count)
    return PackedRuns(columns(window, one, count), columns(window, one, np.add.reduceat(blocks.adds(firsts), firsts)))


class PackableUnits:
    """The units of a chain that may stay packed in clusters of one size."""

    def __init__(self, chain: Chain, block_bits: int) -> None:
        """Looks at no table yet."""
        self._block_bits = block_bits
        self._end = chain.virtual_size
        units = [(member.layer, member.layer.compressed) for member in chain.members for _ in member.data]
        fit = [None if each is None or each.unit != 1 << block_bits else each.as_is for _, each in units]
        self.as_is: list[AsIs | None] = fit
        """Of each file of the chain, by index: its units, None where none fit."""
        self._fits = np.array([each is not None for each in fit])
        self._reaches_end = [layer.virtual_size == chain.virtual_size for layer, _ in units]

    def within(self, extents: Extents, held: NDArray[np.bool_]) -> Iterator[tuple[Codec, PackedBlocks]]:
        """Yield the blocks in `extents` that may stay packed, by codec.

        held: bool, which runs the output holds. The last block of a disk may stay packed if its layer ends there too.
        """
        chosen = held & (extents.kind == Kind.COMPRESSED)
        if not chosen.any():
            return
        start, stop, file, token = extents.start, extents.stop, extents.file, extents.host
        if not chosen.all():
            start, stop, file, token = (column[chosen] for column in (start, stop, file, token))
        if not self._fits.all():
            fits = self._fits[file]
            start, stop, file, token = (column[fits] for column in (start, stop, file, token))
        if len(start):
            yield from self._by_codec(*self._whole_blocks(start, stop, file, token))

    def _whole_blocks(
        self, start: NDArray[np.int64], stop: NDArray[np.int64], file: NDArray[np.int16], token: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int16], NDArray[np.int64]]:
        """Return the blocks that lie whole in one of the runs, with its file and token."""
        bits = self._block_bits
        if stop[-1] == self._end and self._reaches_end[file[-1]]:
            stop[-1] = self._end + (1 << bits) - 1 & -1 << bits
        first = start + ((1 << bits) - 1)
        first >>= bits
        count = (stop >> bits) - first
        if (count == 1).all():
            return first, file, token
        count = np.maximum(count, 0)
        block = first.repeat(count) + np.arange(count.sum()) - (count.cumsum() - count).repeat(count)
        return block, file.repeat(count), token.repeat(count)

    def _by_codec(
        self, block: NDArray[np.int64], file: NDArray[np.int16], token: NDArray[np.int64]
    ) -> Iterator[tuple[Codec, PackedBlocks]]:
        """Yield them, less what would take more room than a plain block."""
        if not len(file):
            return
        indices = [int(file[0])] if (file == file[0]).all() else np.unique(file).tolist()
        for codec in _CODECS:
            files = [index for index in indices if (units := self.as_is[index]) is not None and units.codec == codec]
            parts = [self._placed(index, len(indices) == 1, block, file, token) for index in files]
            if parts and any(len(part.block) for part in parts):
                yield codec, _in_guest_order(parts)

    def _placed(
        self, index: int, alone: bool, block: NDArray[np.int64], file: NDArray[np.int16], token: NDArray[np.int64]
    ) -> PackedBlocks:
        """Return those of the file `index`; alone: they all are."""
        units = self.as_is[index]
        assert units is not None, "the files are those with some"
        if not alone:
            own = file == index
            block, file, token = block[own], file[own], token[own]
        host, sectors = units.places(token)
        fit = sectors <= 1 << self._block_bits - _SECTOR_BITS
        if not fit.all():
            block, file, host, sectors = block[fit], file[fit], host[fit], sectors[fit]
        return PackedBlocks(block, file, host, sectors)


def _in_guest_order(parts: list[PackedBlocks]) -> PackedBlocks:
    """Return the blocks of several files, at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    block = np.concatenate([part.block for part in parts])
    order = block.argsort(kind="stable")
    return PackedBlocks(
        block[order],
        np.concatenate([part.file for part in parts])[order],
        np.concatenate([part.host for part in parts])[order],
        np.concatenate([part.sectors for part in parts])[order],
    )
