"""A raw file: data where it has any, zeros elsewhere. The simplest of the layers."""

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import Extents, Kind, MapKind
from vdifs.formats.layer import UNLIMITED, identity_of, without_holes
from vdifs.formats.load import Load
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import edges_of
from vdifs.units import SECTOR, round_up

__all__ = ["RawLayer"]


class RawLayer:
    """A raw file: data where SEEK_DATA says so, zeros elsewhere; never unallocated."""

    has_backing = False

    def __init__(self, file: HostFile) -> None:
        """Look up the holes of `file`."""
        self.virtual_size = round_up(file.size, SECTOR)
        self._edges = edges_of(file)
        self.identity = identity_of([file], [self._edges])
        self.load = Load(self.populated(), UNLIMITED)
        self.nbytes = self._edges.nbytes + self.load.nbytes

    def extents(self, start: int, end: int) -> Extents:
        """Return DATA and ZERO runs; see Layer."""
        return without_holes(Extents.uniform(start, end, Kind.DATA, 0, start), self._edges)

    def details(self, start: int, end: int) -> Extents:
        """Return DATA and, for holes, ZERO_ALLOC runs; see Layer."""
        return without_holes(Extents.uniform(start, end, Kind.DATA, 0, start), self._edges, MapKind.ZERO_ALLOC)

    def populated(self) -> NDArray[np.int64]:
        """Return where there are data; see Layer."""
        runs: NDArray[np.int64] = self._edges.reshape(-1, 2)
        return runs
