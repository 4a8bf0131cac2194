"""The clusters of an L2 table as batches: those that lie one behind the other in the file that is read, in guest order.

entries   plain plain zeros plain packed packed plain
batches   [----------------------][-----------][----]      no longer than is one thread's work at a time
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.qcow2.packed_tables import PackedTable
from vdifs.units import SECTOR

__all__ = ["Batch", "batches_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Clusters whose bytes are in [offset, offset + length) of the file that is read.

    packed: whether they are packed already. places: their indices in `table`. at: where each begins, from `offset` on.
    lengths: how many bytes each has, if packed at most. packable: whether each may be packed, or is already.
    """

    table: PackedTable
    packed: bool
    offset: int
    length: int
    places: list[int]
    at: list[int]
    lengths: list[int]
    packable: list[bool]


def batches_of(table: PackedTable, cluster_size: int, most: int) -> Iterator[Batch]:
    """Yield the batches of a table; most: bytes of each, where more than one cluster is in it."""
    plain, packed = len(table.places), len(table.packed_places)
    place = np.concatenate([table.places, table.packed_places])
    order = place.argsort()
    place = place[order]
    offset = np.concatenate([table.offsets, table.packed_offsets])[order]
    length = np.concatenate([np.full(plain, cluster_size), table.packed_lengths])[order]
    is_packed = order >= plain
    packable = np.concatenate([table.packable, np.ones(packed, np.bool_)])[order]
    for start, stop in _runs(offset, length, is_packed, most):
        part = slice(start, stop)
        begin = int(offset[start])
        yield Batch(
            table,
            bool(is_packed[start]),
            begin,
            int((offset[part] + length[part]).max()) - begin,
            place[part].tolist(),
            (offset[part] - begin).tolist(),
            length[part].tolist(),
            packable[part].tolist(),
        )


def _runs(
    offset: NDArray[np.int64], length: NDArray[np.int64], packed: NDArray[np.bool_], most: int
) -> Iterator[tuple[int, int]]:
    """Yield where each batch starts and stops among clusters in guest order; packed ones may lie a sector apart."""
    stop = offset + length
    apart = (packed[1:] != packed[:-1]) | (offset[1:] < offset[:-1]) | (offset[1:] > stop[:-1] + SECTOR)
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(offset)]
    for start, last in pairwise(edges):
        stops = np.maximum.accumulate(stop[start:last])
        first = start
        while first < last:
            fit = start + int(stops.searchsorted(offset[first] + most, "right"))
            yield first, max(first + 1, fit)
            first = max(first + 1, fit)
