"""A disk that lies in a file from front to back: data where the file has any, zeros elsewhere. The simplest layer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import Extents, Kind, MapKind
from vdifs.formats.layer import UNLIMITED, identity_of, without_holes
from vdifs.formats.load import Load
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import SECTOR, round_up

__all__ = ["FlatLayer", "FlatState"]


class FlatState(NamedTuple):
    """The one state of such a file."""

    virtual_size: int


class FlatLayer:
    """A disk in a row: data where SEEK_DATA says so, zeros elsewhere; never unallocated."""

    has_backing = False
    compressed = None

    def __init__(self, file: HostFile, start: int = 0, size: int | None = None) -> None:
        """Look up the holes of `file`, in which the disk lies from `start` on.

        size: of the disk, None for all the rest of the file, in whole sectors.
        """
        self.virtual_size = round_up(file.size - start if size is None else size, SECTOR)
        self.state = FlatState(self.virtual_size)
        self._start = start
        self._data = data_of(file)
        self.identity = identity_of([file], [self._data], (start, self.virtual_size) if start or size else None)
        self.load = Load(self.populated(), UNLIMITED)
        self.nbytes = self._data.nbytes + self.load.nbytes

    def extents(self, start: int, end: int) -> Extents:
        """Return DATA and ZERO runs; see Layer."""
        return without_holes(self._all_data(start, end), self._data)

    def details(self, start: int, end: int) -> Extents:
        """Return DATA and, for holes, ZERO_ALLOC runs; see Layer."""
        return without_holes(self._all_data(start, end), self._data, MapKind.ZERO_ALLOC)

    def populated(self) -> NDArray[np.int64]:
        """Return where there are data; see Layer."""
        return self._data.clip(self._start, self._start + self.virtual_size).rows - self._start

    def _all_data(self, start: int, end: int) -> Extents:
        return Extents.uniform(start, end, Kind.DATA, 0, self._start + start)
