"""The guest clusters of a synthetic qcow2, window by window."""

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.qcow2.geometry import Geometry
from vdifs.output.allocation import Allocation
from vdifs.output.granularity import Granularity
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.window import Pieces, Window, stored_blocks, stored_pieces

__all__ = ["Clusters", "granularity_of"]


def granularity_of(geometry: Geometry) -> Granularity:
    """Return how a qcow2 of that geometry divides a disk."""
    unit_bits, table_bits = (size.bit_length() - 1 for size in (geometry.grain, geometry.l2_coverage))
    return Granularity(unit_bits, geometry.cluster_bits, table_bits)


class Clusters:
    """The windows of one output: the states of their clusters, and what those that are stored are made of."""

    def __init__(self, allocation: Allocation) -> None:
        """Resolves nothing yet; allocation: summarized."""
        self._allocation = allocation
        self._kept: KeptWindows[Window] = KeptWindows(allocation.chain)

    def window(self, index: int, wait: bool) -> Window:
        """Return a window. wait=False: raises WouldBlock if it has to be resolved first."""
        return self._kept.get(index, self._resolve, wait=wait)

    def pieces(self, index: int, wait: bool) -> Pieces:
        """Return what the stored clusters of a window are made of, one after the other. wait: as for `window`."""
        return self._kept.get(index, self._resolve, wait=wait).pieces

    def _resolve(self, index: int) -> Window:
        extents = self._allocation.extents(index)
        states = self._allocation.states(extents)
        granularity = self._allocation.granularity
        stored = stored_blocks(states, granularity.units_per_block)
        rank: NDArray[np.int64] = np.cumsum(stored) - stored
        return Window(states, stored_pieces(extents, states, granularity, rank << granularity.block_bits))
