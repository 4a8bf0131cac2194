"""Extents without tables: a range of a raw file (FLAT, VMFS), and zeros. See Part."""

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.extents import Extents, Kind, MapKind
from vdifs.formats.layer import UNLIMITED, without_holes
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of

__all__ = ["FlatExtent", "ZeroExtent"]


class FlatExtent:
    """Part of a raw file: data where SEEK_DATA says so, zeros elsewhere; never unallocated."""

    grain = UNLIMITED

    def __init__(self, file: HostFile, start: int, size: int) -> None:
        """Look up the holes of `file`, in which the disk begins at `start`. Raises FormatError if it is too short."""
        if start + size > file.size:
            what = f"its disk lies from {start:#x} to {start + size:#x}, beyond the end of the file at {file.size:#x}"
            raise FormatError(what, where=file.name, remedy=CUT_SHORT)
        self.size = size
        self._start = start
        self._data = data_of(file)
        self.nbytes = self._data.nbytes

    def extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        """Return DATA and, for holes, ZERO or ZERO_ALLOC runs; see Part."""
        data = Extents.uniform(start, end, Kind.DATA, 0, self._start + start)
        return without_holes(data, self._data, MapKind.ZERO_ALLOC if detailed else Kind.ZERO)

    def populated(self, *, has_backing: bool) -> NDArray[np.int64]:
        """Return where there are data, of an image with a parent everything: nothing shows through; see Part."""
        if has_backing:
            return np.array([[0, self.size]], np.int64)
        return self._data.clip(self._start, self._start + self.size).rows - self._start


class ZeroExtent:
    """Zeros, in no file."""

    grain = UNLIMITED
    nbytes = 0

    def __init__(self, size: int) -> None:
        """Take the bytes of disk."""
        self.size = size

    def extents(self, start: int, end: int, *, detailed: bool) -> Extents:  # noqa: ARG002 - as of any part
        """Return a ZERO run; see Part."""
        return Extents.uniform(start, end, Kind.ZERO, 0)

    def populated(self, *, has_backing: bool) -> NDArray[np.int64]:
        """Return nothing, of an image with a parent everything: nothing shows through; see Part."""
        return np.array([[0, self.size]] if has_backing else [], np.int64).reshape(-1, 2)
