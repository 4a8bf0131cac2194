"""The refcounts of a file in which clusters are used once, but for packed ones: how large they are, and their bytes.

refcount table                    refcount blocks
[block 0][block 1][0][0]...  -->  [1 1 1 1 1 ...][1 1 1 0 0 ...]
                                   clusters 0..n   the rest      no cluster, 0
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.units import ceil_div

__all__ = [
    "REFCOUNT_BITS",
    "REFCOUNT_ORDER",
    "RefcountSize",
    "block_offsets",
    "fit_refcounts",
    "pack_block",
    "pack_counts",
    "pack_table",
    "reserved_table_bits",
]

REFCOUNT_ORDER = 4
REFCOUNT_BITS = 1 << REFCOUNT_ORDER
_BYTES = REFCOUNT_BITS // 8
_RESERVED = 0x1FF


@dataclass(frozen=True, slots=True)
class RefcountSize:
    """Clusters of the refcount table and blocks of a file with `total` clusters, themselves included."""

    table_clusters: int
    blocks: int
    total: int


def fit_refcounts(others: int, cluster_size: int) -> RefcountSize:
    """Return the smallest refcount structures that count `others` clusters, >= 1, and themselves (a fixed point)."""
    blocks, table = 0, 0
    while True:
        total = others + table + blocks
        need_blocks = ceil_div(total * _BYTES, cluster_size)
        need_table = ceil_div(need_blocks * 8, cluster_size)
        if (need_blocks, need_table) == (blocks, table):
            return RefcountSize(table, blocks, total)
        blocks, table = need_blocks, need_table


def pack_table(first: int, count: int, blocks: int, blocks_offset: int, cluster_size: int) -> bytes:
    """Return entries [first, first + count) of the refcount table; the `blocks` blocks lie one after the other."""
    index = np.arange(first, first + count, dtype=np.int64)
    offsets = np.where(index < blocks, blocks_offset + index * cluster_size, 0)
    return offsets.astype(">u8").tobytes()


def pack_block(first: int, count: int, total: int) -> bytes:
    """Return the refcounts of clusters [first, first + count): 1 below `total`, 0 from there on."""
    used = min(max(total - first, 0), count)
    return b"\0\1" * used + bytes(_BYTES * (count - used))


def pack_counts(counts: NDArray[np.int64]) -> bytes:
    """Return the refcounts of clusters that are used so often: int64, 0 to 65,535."""
    return counts.astype(">u2").tobytes()


def block_offsets(table: bytes) -> NDArray[np.uint64]:
    """Return the host offsets of the refcount blocks, 0 for none: uint64, one for each entry of the refcount table."""
    return (np.frombuffer(table, ">u8") & ~np.uint64(_RESERVED)).astype(np.uint64)


def reserved_table_bits(table: bytes) -> NDArray[np.bool_]:
    """Return which entries of a refcount table have a reserved bit set: bool."""
    found: NDArray[np.bool_] = (np.frombuffer(table, ">u8") & np.uint64(_RESERVED)) != 0
    return found
