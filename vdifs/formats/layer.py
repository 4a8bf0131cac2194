"""What one file of a chain holds: the `Layer` protocol, and what layers of several formats share.

A layer answers for its own virtual size only; what lies beyond, or below it, is the chain's business.
"""

import hashlib
import time
from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import Extents, Kind, MapKind
from vdifs.formats.load import Load
from vdifs.storage.host_file import HostFile

__all__ = ["UNLIMITED", "Layer", "identity_of", "without_holes"]

UNLIMITED = 1 << 62


class Layer(Protocol):
    """One image of a chain."""

    @property
    def virtual_size(self) -> int:
        """Bytes of guest disk, a multiple of 512."""

    @property
    def has_backing(self) -> bool:
        """Whether it is UNALLOCATED outside of `populated`, where layers below it may answer, and not ZERO."""

    @property
    def load(self) -> Load:
        """How much it has below any offset."""

    @property
    def identity(self) -> Hashable:
        """What determines all that the layer tells: layers that have the same tell the same."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that follow the size of the tables, about."""

    def extents(self, start: int, end: int) -> Extents:
        """Return what this layer alone holds of [start, end), not empty and within the virtual size.

        The `layer` column is 0 where the layer holds something. Raises FormatError, StorageError.
        """

    def details(self, start: int, end: int) -> Extents:
        """Return the same as a map shows it: in `MapKind`, with DATA_HOLE, ZERO_ALLOC and UNALLOCATED_ALLOC too."""

    def populated(self) -> NDArray[np.int64]:
        """Return the ranges outside of which there are neither tables nor data: int64, shape (n, 2), sorted, apart.

        Of any range between them `extents` is known at once.
        """


def identity_of(files: Sequence[HostFile], edges: Sequence[NDArray[np.int64]], place: Hashable = None) -> Hashable:
    """Return the identity of a layer in `files`, whose data lie between those edges.

    A file system may tell of other holes in the same state; and time stamps that are too young tell no state.
    """
    now = time.time_ns()
    prints = tuple(file.fingerprint for file in files)
    if any(each.racy_for_ns(now) for each in prints):
        return object()
    return prints, place, *(hashlib.blake2b(each.tobytes(), digest_size=16).digest() for each in edges)


def without_holes(extents: Extents, edges: NDArray[np.int64], hole_kind: Kind | MapKind = Kind.ZERO) -> Extents:
    """Return `extents` with the DATA that lie in holes of their file as `hole_kind`.

    edges: where the file's data start and end, in turns (vdifs.storage.known_holes).

        host      ....edge|=======data=======|edge......hole......|edge==
        extent         |========================DATA===============|
        result         |==========DATA=======|0000000ZERO0000000000|
    """
    low = edges.searchsorted(extents.host, "right")
    high = edges.searchsorted(extents.host + extents.length, "left")
    data = extents.kind == Kind.DATA
    crossing = data & (low < high)
    if crossing.any():
        cuts = [edges[low[i] : high[i]] - extents.host[i] + extents.start[i] for i in np.flatnonzero(crossing).tolist()]
        extents = extents.cut(np.concatenate(cuts))
        low = edges.searchsorted(extents.host, "right")
        data = extents.kind == Kind.DATA
    hole = data & (low % 2 == 0)
    if not hole.any():
        return extents
    kind, host = extents.kind.copy(), extents.host.copy()
    kind[hole] = hole_kind
    if hole_kind is Kind.ZERO:
        host[hole] = 0
    return Extents(extents.start, kind, extents.layer, host, extents.end).merged()
