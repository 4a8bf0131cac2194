"""What one file of a chain holds: the `Layer` protocol, and what layers of several formats share.

A layer answers for its own virtual size only; what lies beyond, or below it, is the chain's business.
"""

import hashlib
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import Extents, Kind, MapKind
from vdifs.formats.load import Load
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile

__all__ = [
    "UNLIMITED",
    "AsIs",
    "Codec",
    "Compressed",
    "Layer",
    "PackedBytes",
    "State",
    "identity_of",
    "without_holes",
]

UNLIMITED = 1 << 62


class State(Hashable, Protocol):
    """What one state of a file claims: of two equal ones of the same file everything is the same."""

    @property
    def virtual_size(self) -> int:
        """Bytes of guest disk."""


class PackedBytes(NamedTuple):
    """Where the packed bytes of a compressed unit lie in its file: `offset`, of any alignment, `length` at most."""

    offset: int
    length: int


Codec = Literal["deflate", "zstd"]
"""How packed clusters of a qcow2 are packed."""


class AsIs(Protocol):
    """Compressed units that a qcow2 with clusters of their size may hold packed, as they are."""

    @property
    def codec(self) -> Codec:
        """How they are packed."""

    def places(self, tokens: NDArray[np.int64], /) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the packed bytes of units lie: int64, offsets in the file, and sectors of 512 bytes.

        Each unit touches that many sectors at most, the one that it begins in included, and others may begin in them.
        """

    def measurer(self) -> Callable[[bytes], int]:
        """Return what tells how many bytes a unit takes of the packed ones that it begins: for one thread.

        It unpacks them, and raises FormatError for damaged ones.
        """


class Compressed(Protocol):
    """The compressed units of a layer, each known by a token, which is the `host` of its COMPRESSED extents."""

    @property
    def unit(self) -> int:
        """Bytes of guest disk in each, which begins at a multiple of that."""

    def place(self, token: int, /) -> PackedBytes:
        """Return where the packed bytes of a unit lie."""

    def unpacker(self) -> Callable[[bytes], bytes]:
        """Return what makes a whole unit of packed bytes: for one thread. It raises FormatError for damaged ones."""

    @property
    def as_is(self) -> AsIs | None:
        """What a qcow2 has to know to hold them as they are, None where it cannot."""


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
    def state(self) -> State:
        """Which of the states of its file it is, and of what size."""

    @property
    def compressed(self) -> Compressed | None:
        """Its compressed units, None where it can have none."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that follow the size of the tables, about."""

    def extents(self, start: int, end: int) -> Extents:
        """Return what this layer alone holds of [start, end), not empty and within the virtual size.

        Where the layer holds something the `file` column is an index of its data files, 0 for zeros. Raises
        FormatError, StorageError.
        """

    def details(self, start: int, end: int) -> Extents:
        """Return the same as a map shows it: in `MapKind`, with DATA_HOLE, ZERO_ALLOC and UNALLOCATED_ALLOC too."""

    def populated(self) -> NDArray[np.int64]:
        """Return the ranges outside of which there are neither tables nor data: int64, shape (n, 2), sorted, apart.

        Of any range between them `extents` is known at once.
        """


def identity_of(files: Sequence[HostFile], data: Sequence[Ranges], place: Hashable = None) -> Hashable:
    """Return the identity of a layer in `files`, which have data there.

    A file system may tell of other holes in the same state; and time stamps that are too young tell no state.
    """
    now = time.time_ns()
    prints = tuple(file.fingerprint for file in files)
    if any(each.racy_for_ns(now) for each in prints):
        return object()
    return prints, place, *(hashlib.blake2b(each.edges.tobytes(), digest_size=16).digest() for each in data)


def without_holes(extents: Extents, data: Ranges, hole_kind: Kind | MapKind = Kind.ZERO) -> Extents:
    """Return `extents` with the DATA that lie in holes of their file as `hole_kind`.

    data: where their file has some (vdifs.storage.known_holes).

        host      ....edge|=======data=======|edge......hole......|edge==
        extent         |========================DATA===============|
        result         |==========DATA=======|0000000ZERO0000000000|
    """
    edges = data.edges
    low = edges.searchsorted(extents.host, "right")
    high = edges.searchsorted(extents.host + extents.length, "left")
    is_data = extents.kind == Kind.DATA
    crossing = is_data & (low < high)
    if crossing.any():
        cuts = [edges[low[i] : high[i]] - extents.host[i] + extents.start[i] for i in np.flatnonzero(crossing).tolist()]
        extents = extents.cut(np.concatenate(cuts))
        low = edges.searchsorted(extents.host, "right")
        is_data = extents.kind == Kind.DATA
    hole = is_data & (low % 2 == 0)
    if not hole.any():
        return extents
    kind, host = extents.kind.copy(), extents.host.copy()
    kind[hole] = hole_kind
    if hole_kind is Kind.ZERO:
        host[hole] = 0
    return Extents(extents.start, kind, extents.file, host, extents.end).merged()
