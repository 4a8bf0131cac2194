"""One window of the disk in detail: the state of every unit, and where the data of what is stored come from.

How large units and blocks are is the output's Granularity. A block is stored if any of its units is DATA. Where it is
stored the output decides: here right behind the one before, as in qcow2.

blocks             0    1    2    3    4    5    6    7
states             D    D    -    Z    D    -    -    D
stored            [0   ][1   ]        [2   ]        [3   ]      places of the blocks, in guest order
pieces            |a...|b|000|         |c..|         |d...|     sorted by output offset; gaps are zeros
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import led_by
from vdifs.extents import Extents, Kind
from vdifs.output.granularity import Granularity

__all__ = [
    "ONES",
    "Pieces",
    "State",
    "Window",
    "by_block",
    "stored_blocks",
    "stored_pieces",
    "unit_states",
]


ONES = 0xFF
"""The kind of a piece that is no part of the disk: bytes of FF, of no file. All others have a `Kind`."""


class State(IntEnum):
    """What a unit is."""

    UNALLOCATED = 0
    ZERO = 1
    DATA = 2


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Where the bytes of a region come from: parallel arrays, sorted, apart; what lies between is zeros.

    out, stop: int64, byte range in the region. guest: int64, the guest offset of `out`. kind: uint8, DATA, COMPRESSED
    or ONES. file: int16, of the chain. host: int64, as in Extents.
    """

    out: NDArray[np.int64]
    stop: NDArray[np.int64]
    guest: NDArray[np.int64]
    kind: NDArray[np.uint8]
    file: NDArray[np.int16]
    host: NDArray[np.int64]

    @classmethod
    def from_extents(cls, extents: Extents, out: NDArray[np.int64]) -> "Pieces":
        """Return the runs of `extents` that hold bytes; out: int64, where each of its runs begins in the region."""
        real = extents.kind >= Kind.DATA
        out = out[real]
        return cls(
            out,
            out + extents.length[real],
            extents.start[real],
            extents.kind[real],
            extents.file[real],
            extents.host[real],
        )

    def first(self, count: int) -> "Pieces":
        """Return the first `count` of them."""
        cut = slice(count)
        return Pieces(self.out[cut], self.stop[cut], self.guest[cut], self.kind[cut], self.file[cut], self.host[cut])

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 35 * len(self.out)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """states: uint8, `State` of each unit. pieces: of the window's stored blocks."""

    states: NDArray[np.uint8]
    pieces: Pieces

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what Python adds."""
        return self.states.nbytes + self.pieces.nbytes


def unit_states(
    extents: Extents, unit_bits: int, data: NDArray[np.bool_], held: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the state of each unit that `extents` touch, from its first on: uint8.

    data, held: bool, which runs are data, and which the output holds, those or zeros. A unit that touches nothing held
    is UNALLOCATED, another one that touches data DATA, any other ZERO. extents.start[0] must be a multiple of the
    unit's size.
    """
    origin = int(extents.start[0])
    count = -(-(extents.end - origin) >> unit_bits)
    states = np.zeros(count, np.uint8)
    with_data = _touched(extents, data, unit_bits, count)
    if data is held:
        states[with_data] = State.DATA
        return states
    holding = _touched(extents, held, unit_bits, count)
    states[holding] = State.ZERO
    states[holding & with_data] = State.DATA
    return states


def stored_blocks(states: NDArray[np.uint8], units_per_block: int) -> NDArray[np.bool_]:
    """Return which blocks have a DATA unit: bool. The last block may have fewer units than the others."""
    data: NDArray[np.bool_] = states == State.DATA
    if units_per_block == 1:
        return data
    stored: NDArray[np.bool_] = by_block(data, units_per_block).max(1)
    return stored


def by_block(units: NDArray[np.bool_], units_per_block: int) -> NDArray[np.bool_]:
    """Return one row for each block; units beyond the end of the disk are False."""
    return np.pad(units, (0, -len(units) % units_per_block)).reshape(-1, units_per_block)


def stored_pieces(
    extents: Extents, states: NDArray[np.uint8], granularity: Granularity, places: NDArray[np.int64]
) -> Pieces:
    """Return the pieces of the stored blocks; extents: of the whole chain, from the same start on.

    places: int64, where each block begins in what the output stores of the window; those of stored blocks are in guest
    order, with any distance. Only DATA units have bytes; in a stored block the others are gaps.
    """
    unit_bits, block_bits, _ = granularity
    is_data = states == State.DATA
    stored = stored_blocks(states, granularity.units_per_block)
    origin = int(extents.start[0])
    cuts = (np.flatnonzero(np.diff(is_data)) + 1 << unit_bits) + origin
    jumps = stored[1:] & stored[:-1] & (np.diff(places) != 1 << block_bits)
    if jumps.any():
        cuts = np.unique(np.append(cuts, (np.flatnonzero(jumps) + 1 << block_bits) + origin))
    extents = extents.cut(cuts[cuts < extents.end])
    at = extents.start - origin
    out = places[at >> block_bits] + (at & ((1 << block_bits) - 1))
    kind = np.where(is_data[at >> unit_bits], extents.kind, np.uint8(Kind.UNALLOCATED))
    return Pieces.from_extents(Extents(extents.start, kind, extents.file, extents.host, extents.end), out)


def _touched(extents: Extents, mask: NDArray[np.bool_], unit_bits: int, count: int) -> NDArray[np.bool_]:
    """Return which of `count` units the masked runs touch: bool. Where two runs touch one unit, it is the first's.

    runs              |-----|      |--||-------|         gap, run, gap, run ...: 1 2 1 1 0 2 1
    units         |    |xxxx|xxxx|    |xxxx|xxxx|xxxx|    |
    """
    origin = extents.start[0]
    last = ((extents.stop[mask] - origin - 1) >> unit_bits) + 1
    before = led_by(0, last)
    first = np.maximum((extents.start[mask] - origin) >> unit_bits, before[:-1])
    lengths = np.empty(2 * len(first) + 1, np.int64)
    lengths[0:-1:2] = first - before[:-1]
    lengths[1::2] = last - first
    lengths[-1] = count - before[-1]
    touched: NDArray[np.bool_] = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return touched
