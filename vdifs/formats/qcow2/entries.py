"""L1 and L2 entries: the only module that knows their bits.

Whole tables are decoded at a time with numpy. The result is a `Runs`: what neighbouring clusters hold, already
merged, so that a terabyte of contiguous data is one run and not sixteen million.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import columns, led_by
from vdifs.errors import FormatError
from vdifs.extents import Kind, MapKind
from vdifs.formats.qcow2.geometry import SUBCLUSTERS, Geometry
from vdifs.units import SECTOR

__all__ = [
    "CompressedCluster",
    "Runs",
    "compressed_cluster",
    "compressed_places",
    "data_ranges",
    "decode_extended_l2",
    "decode_l1",
    "decode_l2",
    "encode_compressed",
    "encode_extended_l2",
    "encode_tables",
    "l1_reserved_bits",
    "l2_offsets",
    "packed_ranges",
    "reserved_bits",
]

OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1 << 0
_L2_RESERVED = 0x3F00_0000_0000_01FE
_L1_RESERVED = 0x7F00_0000_0000_01FF


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Merged runs of clusters or subclusters, in three parallel arrays.

    first: int64, strictly increasing unit indices from 0. kind: uint8, `Kind`. host: int64, for DATA the host offset,
    for COMPRESSED the L2 entry, otherwise 0.
    """

    first: NDArray[np.int64]
    kind: NDArray[np.uint8]
    host: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CompressedCluster:
    """Where the packed bytes of a compressed cluster lie: `offset`, of any alignment, and at most `length` bytes."""

    offset: int
    length: int


def decode_l1(table: bytes, cluster_size: int) -> NDArray[np.int64]:
    """Return the host offsets of the L2 tables, 0 for none: int64, one for each entry of `table`.

    Raises FormatError for an offset that is no multiple of the cluster size, as QEMU's qcow2_get_host_offset.
    """
    offsets = l2_offsets(table)
    wrong = offsets & (cluster_size - 1) != 0
    if wrong.any():
        index = int(wrong.argmax())
        raise FormatError(
            f"L1 entry {index} points to {int(offsets[index]):#x}, no multiple of the cluster size {cluster_size:#x}"
        )
    return offsets


def l2_offsets(table: bytes) -> NDArray[np.int64]:
    """Return the host offsets in the L1 entries of `table`, wherever they point: int64, 0 for none."""
    return (np.frombuffer(table, ">u8") & OFFSET_MASK).astype(np.int64)


def decode_l2(
    table: NDArray[np.uint64], geometry: Geometry, version: int, *, data_file: bool = False, detailed: bool = False
) -> Runs:
    """Return what the clusters of `table`, native uint64 L2 entries, hold.

    Follows qcow2_get_cluster_type: bit 0 means zeros in version 3 and is an error in version 2; reserved bits are
    ignored; offset 0 is unallocated, but with an external data file a real place if COPIED is set. detailed: tell
    ZERO_ALLOC, which offset 0 never is, from ZERO.
    Raises FormatError for an unaligned offset.
    """
    heads = _heads(table, geometry.cluster_size)
    table = table[heads]
    host = (table & np.uint64(OFFSET_MASK)).astype(np.int64)
    packed = (table & np.uint64(COMPRESSED)) != 0
    zero = ((table & np.uint64(ZERO)) != 0) & ~packed
    if version < 3 and zero.any():
        raise FormatError(f"L2 entry {heads[zero.argmax()]} of the range marks zeros, which version 2 does not have")
    _check_alignment(heads, host, packed, geometry)
    placed = host != 0
    data = placed | ((table & np.uint64(COPIED)) != 0) if data_file else placed
    kind = np.where(data, np.uint8(Kind.DATA), np.uint8(Kind.UNALLOCATED))
    kind[zero] = np.where(placed[zero] & detailed, MapKind.ZERO_ALLOC, Kind.ZERO)
    host[(kind != Kind.DATA) & (kind != MapKind.ZERO_ALLOC)] = 0
    _put_compressed(kind, host, packed, table)
    return _merge(heads, kind, host, geometry.cluster_size)


def decode_extended_l2(
    table: NDArray[np.uint64], geometry: Geometry, *, data_file: bool = False, detailed: bool = False
) -> Runs:
    """Return what the subclusters of `table`, native uint64 pairs (entry, subcluster bitmap), hold.

    Follows qcow2_get_subcluster_type. The unit of the result is the subcluster, 32 to a cluster; the bitmap of a
    compressed cluster is ignored. Raises FormatError for a subcluster that is both allocated and zero, for one that
    is allocated in a cluster without offset, and for an unaligned offset. detailed: tell ZERO_ALLOC from ZERO and
    UNALLOCATED_ALLOC from UNALLOCATED.
    """
    entries, bitmaps = table[0::2], table[1::2]
    offset = (entries & np.uint64(OFFSET_MASK)).astype(np.int64)
    packed = (entries & np.uint64(COMPRESSED)) != 0
    _check_alignment(np.arange(len(entries)), offset, packed, geometry)
    present = offset != 0
    if data_file:
        present |= (entries & np.uint64(COPIED)) != 0
    low, high = bitmaps & np.uint64(0xFFFF_FFFF), bitmaps >> np.uint64(32)
    _check_bitmaps(low, high, present, packed)
    bits = np.arange(SUBCLUSTERS, dtype=np.uint64)
    allocated = ((low[:, None] >> bits) & np.uint64(1)) != 0
    zero = ((high[:, None] >> bits) & np.uint64(1)) != 0
    kind = np.where(zero, np.uint8(Kind.ZERO), np.where(allocated, np.uint8(Kind.DATA), np.uint8(Kind.UNALLOCATED)))
    if detailed:
        kind[present[:, None] & (kind == Kind.ZERO)] = MapKind.ZERO_ALLOC
        kind[present[:, None] & (kind == Kind.UNALLOCATED)] = MapKind.UNALLOCATED_ALLOC
    places = offset[:, None] + np.arange(SUBCLUSTERS, dtype=np.int64) * geometry.grain
    host = np.where((kind != Kind.UNALLOCATED) & (kind != Kind.ZERO), places, 0)
    _put_compressed(kind, host, packed, entries)
    return _merge(np.arange(kind.size), kind.reshape(-1), host.reshape(-1), geometry.grain)


def compressed_cluster(entry: int, cluster_bits: int) -> CompressedCluster:
    """Return where the packed bytes of the COMPRESSED L2 `entry` lie, as qcow2_parse_compressed_l2_entry."""
    offset_bits = 62 - (cluster_bits - 8)
    offset = entry & ((1 << offset_bits) - 1)
    sectors = (entry >> offset_bits & ((1 << (cluster_bits - 8)) - 1)) + 1
    return CompressedCluster(offset, sectors * SECTOR - offset % SECTOR)


def compressed_places(entries: NDArray[np.int64], cluster_bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the packed bytes of many clusters lie: int64, offsets, and how many sectors they touch at most.

    entries: L2 entries without their flag, as the tokens of COMPRESSED runs.
    """
    offset_bits = 62 - (cluster_bits - 8)
    sectors = entries >> offset_bits
    sectors += 1
    return entries & ((1 << offset_bits) - 1), sectors


def encode_compressed(offsets: NDArray[np.int64], sectors: NDArray[np.int64], cluster_bits: int) -> NDArray[np.uint64]:
    """Return the native L2 entries of compressed clusters at `offsets`, of any alignment: uint64.

    sectors: int64, how many each touches, 1 to 2**(cluster_bits - 8). All must lie below 2**(70 - cluster_bits).
    """
    return (offsets | sectors - 1 << 62 - (cluster_bits - 8) | COMPRESSED).astype(np.uint64)


def encode_tables(
    offsets: NDArray[np.int64],
    zero: NDArray[np.bool_] | None = None,
    packed_at: NDArray[np.int64] | None = None,
    packed: NDArray[np.uint64] | None = None,
) -> bytes:
    """Return standard L1 or L2 entries: COPIED with the offset where it is not 0, the zero bit where `zero`, else 0.

    packed: the entries, as encode_compressed returns them, of the clusters with the indices packed_at.
    """
    entries = offsets.astype(np.uint64)
    entries[offsets != 0] |= np.uint64(COPIED)
    if zero is not None:
        entries[zero] |= np.uint64(ZERO)
    if packed_at is not None and packed is not None:
        entries[packed_at] = packed
    return entries.astype(">u8").tobytes()


def encode_extended_l2(
    offsets: NDArray[np.int64],
    allocated: NDArray[np.bool_],
    zero: NDArray[np.bool_],
    packed_at: NDArray[np.int64] | None = None,
    packed: NDArray[np.uint64] | None = None,
) -> bytes:
    """Return extended L2 entries; allocated, zero: bool, a row of 32 for each cluster, never both set.

    packed: as for encode_tables; of those clusters neither row counts, as they have no subclusters.
    """
    entries = np.zeros((len(offsets), 2), np.uint64)
    entries[:, 0] = offsets
    entries[offsets != 0, 0] |= np.uint64(COPIED)
    bits = np.uint64(1) << np.arange(SUBCLUSTERS, dtype=np.uint64)
    entries[:, 1] = (allocated * bits).sum(1) | (zero * bits).sum(1) << np.uint64(SUBCLUSTERS)
    if packed_at is not None and packed is not None:
        entries[packed_at, 0] = packed
        entries[packed_at, 1] = 0
    return entries.astype(">u8").tobytes()


def reserved_bits(table: NDArray[np.uint64], geometry: Geometry) -> NDArray[np.bool_]:
    """Return which L2 entries of `table` have a reserved bit set, which every reader ignores: bool."""
    entries = table[0::2] if geometry.extended_l2 else table
    reserved = _L2_RESERVED | ZERO if geometry.extended_l2 else _L2_RESERVED
    found: NDArray[np.bool_] = ((entries & np.uint64(reserved)) != 0) & ((entries & np.uint64(COMPRESSED)) == 0)
    return found


def l1_reserved_bits(table: bytes) -> NDArray[np.bool_]:
    """Return which L1 entries of `table` have a reserved bit set: bool."""
    found: NDArray[np.bool_] = (np.frombuffer(table, ">u8") & _L1_RESERVED) != 0
    return found


def data_ranges(table: NDArray[np.uint64], geometry: Geometry) -> NDArray[np.int64]:
    """Return the host ranges of the clusters that the L2 entries of `table` point to, packed ones left out.

    int64, shape (n, 2).
    """
    entries = table[0::2] if geometry.extended_l2 else table
    offsets = (entries[(entries & np.uint64(COMPRESSED)) == 0] & np.uint64(OFFSET_MASK)).astype(np.int64)
    offsets = offsets[offsets != 0]
    return columns(offsets, offsets + geometry.cluster_size)


def packed_ranges(table: NDArray[np.uint64], geometry: Geometry) -> NDArray[np.int64]:
    """Return the host ranges of the compressed clusters in `table`, as compressed_cluster does: int64, shape (n, 2)."""
    entries = table[0::2] if geometry.extended_l2 else table
    packed = (entries[(entries & np.uint64(COMPRESSED)) != 0] & np.uint64(COMPRESSED - 1)).astype(np.int64)
    offsets, sectors = compressed_places(packed, geometry.cluster_bits)
    return columns(offsets, (offsets // SECTOR + sectors) * SECTOR)


def _heads(table: NDArray[np.uint64], cluster_size: int) -> NDArray[np.int64]:
    """Return the indices of the entries that do not just go on with the one before them, 0 among them.

    An entry goes on if both point to data and it is the other plus one cluster, or if both are empty: of a disk that is
    contiguous, or preallocated, or blank, only a few entries are left to look at. One that has more to it is kept.
    """
    before, after = table[:-1], table[1:]
    step = after - before
    goes_on = step == cluster_size
    if goes_on.any():
        for entries in before, after:
            goes_on &= ((entries & np.uint64(OFFSET_MASK)) != 0) & ((entries & np.uint64(COMPRESSED)) == 0)
    goes_on |= (step == 0) & (after == 0)
    return led_by(0, np.flatnonzero(~goes_on) + 1)


def _check_alignment(
    index: NDArray[np.int64], host: NDArray[np.int64], packed: NDArray[np.bool_], geometry: Geometry
) -> None:
    wrong = (host & (geometry.cluster_size - 1) != 0) & ~packed
    if wrong.any():
        first = int(wrong.argmax())
        raise FormatError(
            f"L2 entry {index[first]} of the range points to {int(host[first]):#x}, "
            f"no multiple of the cluster size {geometry.cluster_size:#x}"
        )


def _check_bitmaps(
    low: NDArray[np.uint64], high: NDArray[np.uint64], present: NDArray[np.bool_], packed: NDArray[np.bool_]
) -> None:
    wrong = (((low & high) != 0) & present) | ((low != 0) & ~present)
    wrong &= ~packed
    if wrong.any():
        index = int(wrong.argmax())
        raise FormatError(
            f"extended L2 entry {index} of the range has the subcluster bitmap "
            f"{int(high[index]):08x}:{int(low[index]):08x}, which contradicts itself"
        )


def _put_compressed(
    kind: NDArray[np.uint8], host: NDArray[np.int64], packed: NDArray[np.bool_], entries: NDArray[np.uint64]
) -> None:
    if packed.any():
        kind[packed] = Kind.COMPRESSED
        values = (entries[packed] & np.uint64(COMPRESSED - 1)).astype(np.int64)
        host[packed] = values if host.ndim == 1 else values[:, None]


def _merge(first: NDArray[np.int64], kind: NDArray[np.uint8], host: NDArray[np.int64], unit: int) -> Runs:
    """Return runs as few; first: the index of each one's first unit, `unit` bytes long."""
    if len(first) > 1:
        moves = (host[:-1] != 0) & (kind[:-1] != Kind.COMPRESSED) | (kind[:-1] == Kind.DATA)
        step = np.where(moves, (first[1:] - first[:-1]) * unit, 0)
        keep = led_by(True, (kind[1:] != kind[:-1]) | (host[1:] - host[:-1] != step))
        first, kind, host = first[keep], kind[keep], host[keep]
    return Runs(first, kind, host)
