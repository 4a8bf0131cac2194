"""The load of a layer: how many L2 entries or subclusters, or ranges of a raw file, lie below an offset."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Load"]


class Load:
    """How many units of a layer lie below an offset: those of its populated ranges, and one more for each range."""

    def __init__(self, populated: NDArray[np.int64], grain: int | NDArray[np.float64]) -> None:
        """Take Layer.populated, and how many bytes there are to a unit, or how many in each range."""
        self.edges = populated.reshape(-1).astype(np.float64)
        self._units = np.zeros(len(self.edges))
        self._units[1::2] = (self.edges[1::2] - self.edges[::2]) / grain + 1
        self._units.cumsum(out=self._units)
        self.units = float(self._units[-1]) if len(self._units) else 0.0
        """All of them."""

    def below(self, offsets: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the load below each offset: float64."""
        if not len(self.edges):
            return np.zeros(len(offsets))
        return np.interp(offsets, self.edges, self._units)

    def is_empty(self, start: int, end: int) -> bool:
        """Tell whether there is no load in [start, end), which is not empty."""
        before = int(self.edges.searchsorted(start, "right"))
        return before % 2 == 0 and (before == len(self.edges) or float(self.edges[before]) >= end)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 2 * self.edges.nbytes
