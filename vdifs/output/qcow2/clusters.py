"""The guest clusters of a synthetic qcow2, window by window."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.layer import Codec
from vdifs.formats.qcow2.geometry import Geometry
from vdifs.output.allocation import Allocation
from vdifs.output.granularity import Granularity
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.packed_area import PackedWindow
from vdifs.output.window import Pieces, State, stored_blocks, stored_pieces

__all__ = ["ClusterWindow", "Clusters", "granularity_of"]


@dataclass(frozen=True, slots=True, eq=False)
class ClusterWindow:
    """states: uint8, `State` of each unit. plain: bool, which clusters are stored as they are.

    pieces: of those, one after the other. packed: the clusters that stay packed, None if none do; packed_index:
    int64, which of the window they are.
    """

    states: NDArray[np.uint8]
    plain: NDArray[np.bool_]
    pieces: Pieces
    packed: PackedWindow | None
    packed_index: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what Python adds."""
        packed = 0 if self.packed is None else self.packed.nbytes + self.packed_index.nbytes
        return self.states.nbytes + self.plain.nbytes + self.pieces.nbytes + packed


def granularity_of(geometry: Geometry) -> Granularity:
    """Return how a qcow2 of that geometry divides a disk."""
    unit_bits, table_bits = (size.bit_length() - 1 for size in (geometry.grain, geometry.l2_coverage))
    return Granularity(unit_bits, geometry.cluster_bits, table_bits)


class Clusters:
    """The windows of one output: the states of their clusters, and what those that are stored are made of."""

    def __init__(self, allocation: Allocation, codec: Codec | None) -> None:
        """Resolves nothing yet; allocation: summarized. codec: of the clusters that stay packed, None if none do."""
        self._allocation, self._codec = allocation, codec
        self._kept: KeptWindows[ClusterWindow] = KeptWindows(allocation.chain)

    def window(self, index: int, wait: bool) -> ClusterWindow:
        """Return a window. wait=False: raises WouldBlock if it has to be resolved first."""
        return self._kept.get(index, self._resolve, wait=wait)

    def pieces(self, index: int, wait: bool) -> Pieces:
        """Return what the plain clusters of a window are made of, one after the other. wait: as for `window`."""
        return self._kept.get(index, self._resolve, wait=wait).pieces

    def packed(self, index: int, wait: bool) -> PackedWindow:
        """Return the clusters of a window, which has some, that stay packed. wait: as for `window`."""
        packed = self._kept.get(index, self._resolve, wait=wait).packed
        assert packed is not None, "the summary has told of some"
        return packed

    def _resolve(self, index: int) -> ClusterWindow:
        extents = self._allocation.extents(index)
        states = self._allocation.states(extents)
        granularity = self._allocation.granularity
        stored = stored_blocks(states, granularity.units_per_block)
        packed, at = None, np.empty(0, np.int64)
        plain, unpacked = stored, states
        blocks = None if self._codec is None else self._allocation.packed(extents, self._codec)
        if blocks is not None:
            packed = PackedWindow.of(blocks)
            at = blocks.block - (int(extents.start[0]) >> granularity.block_bits)
            plain = stored.copy()
            plain[at] = False
            unpacked = _without(states, at, granularity.units_per_block)
        rank: NDArray[np.int64] = np.cumsum(plain) - plain
        pieces = stored_pieces(extents, unpacked, granularity, rank << granularity.block_bits)
        return ClusterWindow(states, plain, pieces, packed, at)


def _without(states: NDArray[np.uint8], blocks: NDArray[np.int64], units_per_block: int) -> NDArray[np.uint8]:
    """Return the states with nothing in those blocks; the last block may have fewer units than the others."""
    states = states.copy()
    units = (blocks[:, None] * units_per_block + np.arange(units_per_block)).reshape(-1)
    states[units[units < len(states)]] = State.UNALLOCATED
    return states
