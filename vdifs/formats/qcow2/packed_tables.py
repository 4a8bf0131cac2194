"""The L2 tables of a file whose clusters are being packed: which clusters hold data, and what becomes of each.

before    plain at 5   zeros   nothing   plain at 6   plain at 7   packed
after     packed       zeros   nothing   plain at 9   nothing      packed elsewhere
"""

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import Kind
from vdifs.formats.qcow2.entries import (
    Runs,
    compressed_places,
    decode_extended_l2,
    decode_l2,
    encode_compressed,
    encode_extended_l2,
    encode_tables,
)
from vdifs.formats.qcow2.geometry import Geometry
from vdifs.units import SECTOR

__all__ = ["PackedTable"]


class PackedTable:
    """One L2 table on its way from one file to another. A cluster with data that gets no new place reads as zeros."""

    def __init__(self, table: bytes, index: int, geometry: Geometry, *, delta: bool) -> None:
        """Read a table of version 3. index: in the L1 table. delta: there is a backing file, which zeros hide.

        Raises FormatError as decode_l2 does.
        """
        self.index = index
        self._geometry, self._delta = geometry, delta
        words = np.frombuffer(table, ">u8").astype(np.uint64)
        kind, host = _units(words, geometry)
        self._data, self._zero = kind == Kind.DATA, kind == Kind.ZERO
        packed = kind[:, 0] == Kind.COMPRESSED
        plain = self._data.any(1)
        self.places = np.flatnonzero(plain)
        """The indices of the entries of plain clusters with data: int64, in guest order."""
        first = self._data[plain].argmax(1)
        self.offsets = host[plain, first] - first * geometry.grain
        """Where each of them lies in the file that is read: int64."""
        self.packable = self._held_whole()[plain]
        """Which of them may be packed: bool; a packed cluster holds all of its subclusters."""
        self.packed_places = np.flatnonzero(packed)
        """The indices of the entries of clusters that are packed already: int64, in guest order."""
        self.packed_offsets, sectors = compressed_places(host[packed, 0], geometry.cluster_bits)
        self.packed_lengths = sectors * SECTOR - self.packed_offsets % SECTOR
        """Where the packed bytes of each of them lie in the file that is read, and how many they are at most: int64."""
        self._offsets = np.zeros(len(kind), np.int64)
        self._lengths = np.zeros(len(kind), np.int64)

    def put_packed(self, place: int, offset: int, length: int) -> None:
        """Have a cluster lie packed at `offset`, in `length` bytes."""
        self._offsets[place], self._lengths[place] = offset, length

    def put_plain(self, place: int, offset: int) -> None:
        """Have a cluster lie plain at `offset`."""
        self._offsets[place] = offset

    def pack(self) -> bytes:
        """Return the table; empty if nothing is in it."""
        gone = (self._offsets == 0) & self._data.any(1)
        zero = self._zero | self._data & gone[:, None] if self._delta else self._zero
        data = self._data & ~gone[:, None]
        packed = np.flatnonzero(self._lengths)
        if not self._offsets.any() and not zero.any():
            return b""
        offsets, lengths = self._offsets[packed], self._lengths[packed]
        sectors = (offsets + lengths - 1) // SECTOR - offsets // SECTOR + 1
        entries = encode_compressed(offsets, sectors, self._geometry.cluster_bits)
        if self._geometry.extended_l2:
            return encode_extended_l2(self._offsets, data, zero, packed, entries)
        return encode_tables(self._offsets, zero[:, 0], packed, entries)

    def _held_whole(self) -> NDArray[np.bool_]:
        """Return of each entry whether the backing file shows through none of its subclusters: bool."""
        held = self._data | self._zero
        if not self._delta:
            held[:] = True
        geometry = self._geometry
        beyond = geometry.virtual_size - self.index * geometry.l2_coverage
        held.reshape(-1)[max(0, -(-beyond // geometry.grain)) :] = True  # no subcluster is beyond the end of the disk
        whole: NDArray[np.bool_] = held.all(1)
        return whole


def _units(table: NDArray[np.uint64], geometry: Geometry) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return kind and host of each unit of the clusters of a table: uint8, int64, a row for each cluster."""
    runs = decode_extended_l2(table, geometry) if geometry.extended_l2 else decode_l2(table, geometry, 3)
    return _spread(runs, geometry)


def _spread(runs: Runs, geometry: Geometry) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    count = geometry.units_per_l2
    lengths = np.diff(np.append(runs.first, count))
    kind, host = runs.kind.repeat(lengths), runs.host.repeat(lengths)
    moved = (np.arange(count) - runs.first.repeat(lengths)) * geometry.grain
    host += np.where(kind == Kind.DATA, moved, 0)
    shape = geometry.l2_entries, geometry.units_per_cluster
    return kind.reshape(shape), host.reshape(shape)
