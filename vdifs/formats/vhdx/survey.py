"""The whole BAT, looked at once when an image is opened: is it in order, and how much does the image hold where?

What is kept follows neither the entries nor the file: a bit for each MiB of the file while it is looked at, and at most
131,072 units of the disk of which is known how much they hold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import columns
from vdifs.errors import CUT_SHORT, FormatError
from vdifs.formats.load import Load
from vdifs.formats.vhdx.bat import Bat, State, Window, hosts_of, states_of
from vdifs.formats.vhdx.geometry import BITMAP_BYTES
from vdifs.formats.vhdx.header import MIB, RESTORE
from vdifs.formats.vhdx.regions import Place
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.units import ceil_div

__all__ = ["Survey", "surveyed"]

_UNIT_BITS = 17
_MARKS_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """populated, load: see Layer. blocks, partial: how many are in the file, and how many of these in part."""

    populated: NDArray[np.int64]
    load: Load
    blocks: int
    partial: int


class _Survey:
    """A survey under way."""

    def __init__(self, bat: Bat, places: tuple[Place, ...], touched: Ranges | None) -> None:
        self.bat, self.geometry, self.places, self.touched = bat, bat.geometry, places, touched
        self.name = bat.file.file.name
        blocks = self.geometry.blocks
        self.unit_bits = max(0, (blocks - 1).bit_length() - _UNIT_BITS)
        self.weights = np.zeros((blocks - 1 >> self.unit_bits) + 1)
        self.taken = _Taken(ceil_div(bat.file.size, MIB), self.name)
        self.wanting = np.empty(0, np.int64)
        self.has_bitmap = np.empty(0, np.int64)
        self.blocks = self.partial = 0
        edges = [edge for place in places for edge in (place.offset, place.end)]
        self.fixed = Ranges.union(np.array(edges, np.int64).reshape(-1, 2))

    def look_at(self, window: Window) -> None:
        """Take some entries into account. Raises FormatError."""
        g = self.geometry
        used = np.flatnonzero(window.entries)
        if not len(used):
            return
        self.bat.check(window)
        index, entries = used + window.first, window.entries[used]
        states, is_bitmap = states_of(entries), g.is_bitmap(index)
        in_file = states >= State.PRESENT
        bitmaps, data = in_file & is_bitmap, in_file & ~is_bitmap
        blocks = g.blocks_of(index)
        data &= blocks < g.blocks
        self.has_bitmap = np.concatenate([self.has_bitmap, index[bitmaps] // (g.ratio + 1)])
        lengths = np.where(blocks[data] == g.blocks - 1, g.last_block_bytes, g.block_size)
        starts = hosts_of(entries[data])
        self._check(starts, lengths, "block")
        self._check_untouched(starts, lengths)
        self._check(hosts_of(entries[bitmaps]), np.full(int(bitmaps.sum()), BITMAP_BYTES), "sector bitmap")
        partial = data & (states == State.PARTIAL)
        self.wanting = np.union1d(self.wanting, blocks[partial] // g.ratio)
        self.blocks += int(data.sum())
        self.partial += int(partial.sum())
        held = ~is_bitmap & (blocks < g.blocks) & (in_file | (states > 0) & g.has_parent)
        weights = np.where(partial, g.sectors_per_block, 1)[held]
        self.weights += np.bincount(blocks[held] >> self.unit_bits, weights, len(self.weights))

    def _check(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], what: str) -> None:
        """Refuse what lies outside of the file, on the structures or on something else. starts: in MiB."""
        if not len(starts):
            return
        size = self.bat.file.size
        low, beyond = starts < 1, starts > (size - lengths) // MIB
        if low.any() or beyond.any():
            at = int((low | beyond).argmax())
            place = f"its {what} of {int(lengths[at]):#x} bytes at {int(starts[at]) * MIB:#x}"
            if low[at]:
                raise FormatError(f"{place} lies on its headers", where=self.name, remedy=RESTORE)
            ends = f"ends beyond the end of the file at {size:#x}"
            raise FormatError(f"{place} {ends}", where=self.name, remedy=CUT_SHORT)
        apart = self.fixed.is_apart_from(starts * MIB, starts * MIB + lengths)
        if not apart.all():
            at = int(apart.argmin())
            start = int(starts[at]) * MIB
            under = next(each for each in self.places if each.offset < start + int(lengths[at]) and start < each.end)
            message = f"its {what} at {start:#x} and its {under.name} overlap"
            raise FormatError(message, where=self.name, remedy=RESTORE)
        self.taken.add(starts, -(-lengths // MIB))

    def _check_untouched(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Refuse a log that writes into blocks: the guest's data are never logged."""
        if self.touched is None or not len(starts):
            return
        apart = self.touched.is_apart_from(starts * MIB, starts * MIB + lengths)
        if not apart.all():
            what = f"its log writes into the block at {int(starts[int(apart.argmin())]) * MIB:#x}"
            raise FormatError(what, where=self.name, remedy=RESTORE)

    def done(self) -> Survey:
        """Return what was found. Raises FormatError for partially present blocks without a bitmap."""
        lacking = np.setdiff1d(self.wanting, self.has_bitmap)
        if len(lacking):
            what = f"chunk {int(lacking[0])} of its disk has partially present blocks and no sector bitmap"
            raise FormatError(what, where=self.name, remedy=RESTORE)
        return Survey(*self._load(), self.blocks, self.partial)

    def _load(self) -> tuple[NDArray[np.int64], Load]:
        """Return where there is anything, and how much: ranges in which the units hold much alike, by powers of two."""
        level = np.frexp(self.weights)[1]
        edges = np.flatnonzero(np.diff(level, prepend=0, append=0))
        held = level[edges[:-1]] > 0 if len(edges) else np.empty(0, np.bool_)
        rows = columns(edges[:-1][held], edges[1:][held])
        ranges = np.minimum(rows * (self.geometry.block_size << self.unit_bits), self.geometry.disk_size)
        sums = np.append(0.0, self.weights.cumsum())[rows]
        grains = (ranges[:, 1] - ranges[:, 0]) / (sums[:, 1] - sums[:, 0])
        return Ranges.union(ranges).rows, Load(ranges, grains)


class _Taken:
    """Which MiB of a file something lies on: one bit for each."""

    def __init__(self, units: int, name: str) -> None:
        self._bits = np.zeros(ceil_div(units, 8), np.uint8)
        self._left, self._name = units, name

    def add(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Have something lie there, in MiB. Raises FormatError if something does already."""
        self._left -= int(lengths.sum())
        step = max(1, _MARKS_AT_ONCE // int(lengths.max()))
        for at in range(0, len(starts), step):
            give_way()
            self._mark(starts[at : at + step], lengths[at : at + step])
        if self._left < 0:  # cannot be, if nothing overlaps
            raise FormatError("its blocks take more than the file has", where=self._name, remedy=RESTORE)

    def _mark(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        before = lengths.cumsum() - lengths
        units = np.arange(int(lengths.sum())) + (starts - before).repeat(lengths)
        units.sort()
        byte, bit = units >> 3, np.left_shift(1, units & 7).astype(np.uint8)
        twice = np.append(units[1:] == units[:-1], False) | ((self._bits[byte] & bit) != 0)
        if twice.any():
            place = int(units[int(twice.argmax())]) * MIB
            raise FormatError(f"two of its blocks overlap at {place:#x}", where=self._name, remedy=RESTORE)
        np.bitwise_or.at(self._bits, byte, bit)


def surveyed(bat: Bat, places: tuple[Place, ...], data: Ranges) -> Survey:
    """Look at the whole BAT, but for what lies in holes.

    places: what no block may lie on. data: where the file has some.
    Raises FormatError for an entry that breaks a rule, for blocks and bitmaps that lie on one another, on `places` or
    outside of the file, and for a log that writes into blocks.
    """
    replay = bat.file.replay
    if replay is not None:
        data = Ranges.union(np.concatenate([data.rows, replay.page_rows]))
    survey = _Survey(bat, places, None if replay is None else replay.touched)
    for window in bat.written(data):
        give_way()
        survey.look_at(window)
    return survey.done()
