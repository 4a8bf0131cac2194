"""One VHDX file of a chain: its BAT and its sector bitmaps, read when asked."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError
from vdifs.extents import NO_FILE, Extents, Kind, MapKind
from vdifs.formats.layer import identity_of, without_holes
from vdifs.formats.vhdx.bat import AT_ONCE, Bat, State, hosts_of, states_of
from vdifs.formats.vhdx.geometry import Geometry
from vdifs.formats.vhdx.header import MIB
from vdifs.formats.vhdx.regions import Place
from vdifs.formats.vhdx.replay import ReplayedFile
from vdifs.formats.vhdx.survey import surveyed
from vdifs.pace import give_way
from vdifs.storage.known_holes import data_of
from vdifs.units import ceil_div

__all__ = ["VhdxLayer", "VhdxState"]

_BITS_AT_ONCE = 1 << 20


class VhdxState(NamedTuple):
    """The one state of such a file."""

    virtual_size: int


class VhdxLayer:
    """A VHDX without its parent; what a child does not hold is UNALLOCATED, what a base does not hold is ZERO."""

    compressed = None

    def __init__(self, file: ReplayedFile, bat_offset: int, geometry: Geometry, places: tuple[Place, ...]) -> None:
        """Look at the whole BAT once. places: where no block may lie. Raises what `surveyed` does."""
        self.virtual_size = geometry.disk_size
        self.has_backing = geometry.has_parent
        self.state = VhdxState(self.virtual_size)
        self.geometry = geometry
        self._bat = Bat(file, bat_offset, geometry)
        self._data = data_of(file.file)
        self.identity = identity_of([file.file], [self._data])
        survey = surveyed(self._bat, places, self._data)
        self._populated, self.load = survey.populated, survey.load
        self.blocks, self.partial = survey.blocks, survey.partial
        replay = file.replay
        self.nbytes = self._data.nbytes + self.load.nbytes + self._populated.nbytes + (replay.nbytes if replay else 0)

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer. Reads the BAT of the range, and the bitmaps."""
        return self._extents(start, end, detailed=False)

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._extents(start, end, detailed=True)

    def populated(self) -> NDArray[np.int64]:
        """Return the ranges that have blocks in the file, or in a child zeros; see Layer."""
        return self._populated

    def _extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        parts: list[Extents] = []
        at = start
        for first, last in self._windows(start, end):
            give_way()
            runs = self._runs(first, last, detailed)
            low, high = max(start, int(runs.start[0])), min(end, runs.end)
            if at < low:
                parts.append(self._nothing(at, low))
            parts.append(runs.between(low, high))
            at = high
        if at < end:
            parts.append(self._nothing(at, end))
        hole_kind = MapKind.DATA_HOLE if detailed else Kind.ZERO
        return without_holes(Extents.joined(parts).merged(), self._data, hole_kind)

    def _windows(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the blocks within [start, end) whose entries may say something, some at a time."""
        size = self.geometry.block_size
        first_row = int(self._populated[:, 1].searchsorted(start, "right"))
        for low, high in self._populated[first_row:].tolist():
            if low >= end:
                return
            first, last = max(start, low) // size, ceil_div(min(end, high), size)
            for at in range(first, last, AT_ONCE):
                yield at, min(at + AT_ONCE, last)

    def _nothing(self, start: int, end: int) -> Extents:
        if self.has_backing:
            return Extents.uniform(start, end, Kind.UNALLOCATED)
        return Extents.uniform(start, end, Kind.ZERO, 0)

    def _runs(self, first: int, last: int, detailed: bool) -> Extents:
        """Return the runs of the blocks [first, last), none of them empty."""
        size = self.geometry.block_size
        entries = self._bat.blocks(first, last)
        states, hosts = states_of(entries), hosts_of(entries) * MIB
        kind = np.full(len(states), Kind.ZERO, np.uint8)
        if self.has_backing:
            kind[(states == State.NOT_PRESENT) | (states == State.PARTIAL)] = Kind.UNALLOCATED
        kind[states == State.PRESENT] = Kind.DATA
        starts = np.arange(first, last) * size
        partial = np.flatnonzero(states == State.PARTIAL)
        columns = [(starts, kind, np.where(kind == Kind.DATA, hosts, 0))]
        if len(partial):
            keep = states != State.PARTIAL
            columns = [(starts[keep], kind[keep], columns[0][2][keep])]
            columns += [self._partial(first + group, hosts[group], detailed) for group in self._groups(first, partial)]
        start, kinds, host = map(np.concatenate, zip(*columns, strict=True))
        order = start.argsort(kind="stable")
        kinds = kinds[order]
        file = np.where(kinds == Kind.UNALLOCATED, np.int16(NO_FILE), np.int16(0))
        return Extents(start[order], kinds, file, host[order], min(last * size, self.virtual_size))

    def _groups(self, first: int, partial: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield indices of partially present blocks whose bits lie in a row in one bitmap, some at a time."""
        chunk = (first + partial) // self.geometry.ratio
        breaks = np.flatnonzero((np.diff(partial) != 1) | (np.diff(chunk) != 0)) + 1
        most = max(1, _BITS_AT_ONCE // self.geometry.sectors_per_block)
        for group in np.split(partial, breaks):
            for at in range(0, len(group), most):
                give_way()
                yield group[at : at + most]

    def _partial(
        self, blocks: NDArray[np.int64], hosts: NDArray[np.int64], detailed: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """Return start, kind and host of the runs of partially present blocks in a row, of one chunk.

        Bit k of a byte, from the lowest, is that of its k-th sector: 1 is here, 0 is below.
        """
        g = self.geometry
        place = self._bitmap(int(blocks[0])) + g.bit_place(int(blocks[0]))
        length = len(blocks) * g.sectors_per_block // 8
        bitmap = self._bat.file.read_at(place, length)
        bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little").reshape(len(blocks), -1)
        begins = np.ones(bits.shape, np.bool_)
        np.not_equal(bits[:, 1:], bits[:, :-1], out=begins[:, 1:])
        block, sector = np.nonzero(begins)
        within = sector * g.sector_size
        start = blocks[block] * g.block_size + within
        in_disk = start < self.virtual_size
        block, sector, within, start = block[in_disk], sector[in_disk], within[in_disk], start[in_disk]
        here = bits[block, sector] == 1
        below = MapKind.UNALLOCATED_ALLOC if detailed else Kind.UNALLOCATED
        kind = np.where(here, np.uint8(Kind.DATA), np.uint8(below))
        return start, kind, np.where(here | detailed, hosts[block] + within, 0)

    def _bitmap(self, block: int) -> int:
        """Return the host offset of the bitmap for a block."""
        place = self._bat.bitmap(block // self.geometry.ratio)
        if place < MIB:  # a file that is written meanwhile
            raise FormatError(f"the sector bitmap of block {block} lies on its headers", where=self._bat.file.file.name)
        return place
