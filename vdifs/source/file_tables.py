"""Where the tables of a qcow2 file lie, those of its snapshots included: places that nothing else may lie on.

Half-open host ranges, in bytes. Entries that lead nowhere are left out: whoever reads that table tells of them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError
from vdifs.qcow2.entries import decode_l1
from vdifs.qcow2.geometry import L1_MAX_BYTES, round_up
from vdifs.qcow2.header import Header
from vdifs.qcow2.refcounts import block_offsets
from vdifs.qcow2.snapshots import snapshot_labels
from vdifs.source.chain import union
from vdifs.source.hostfile import HostFile
from vdifs.source.members import Member, read_snapshots

__all__ = ["FileTables"]

_SNAPSHOT_ENTRY = 40
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FileTables:
    """What one state of a file, the active one or a snapshot, must share the file with.

    l1_table: the bytes of its own L1 table. refcount_table: those of the file's. lost_blocks: how many of its entries
    lead to no cluster of the file. overlap: the lowest host offset that two tables share. edges: where tables, in whole
    clusters, start and end, in turns, int64.
    """

    l1_table: bytes
    refcount_table: bytes
    lost_blocks: int
    overlap: int | None
    edges: NDArray[np.int64]

    @classmethod
    def of(cls, member: Member, header: Header) -> "FileTables":
        """Read the tables of `member`, but for its L2 tables. Raises FormatError, StorageError.

        The L2 tables within `edges` are, for the active state, those of all states; for a snapshot, those of the active
        one and its own.
        """
        file, size = member.file, header.cluster_size
        own, states = _l1_ranges(member, header)
        refcounts = _range(header.refcount_table_offset, header.refcount_table_clusters * size)
        refcount_table = _read(file, refcounts)
        offsets = block_offsets(refcount_table)
        lost = (offsets % np.uint64(size) != 0) | (offsets >= np.uint64(file.size))
        blocks = _starting_at(offsets[~lost & (offsets != 0)].astype(np.int64), size)
        lost[0] |= offsets[0] == 0  # the header's own cluster is always counted
        snapshots = _range(header.snapshots_offset, header.nb_snapshots * _SNAPSHOT_ENTRY)  # or more: names, states
        within = [place for place in (refcounts, snapshots, *states) if place[0] < min(place[1], file.size)]
        fixed = np.array([(0, size), *((start, round_up(end, size)) for start, end in within)], np.int64)
        l2 = _starting_at(_l2_offsets(file, states if member.snapshot is None else (own, states[0]), size), size)
        ranges = np.concatenate([fixed, blocks, l2])
        ranges = ranges[ranges[:, 0].argsort(kind="stable")]
        return cls(
            _read(file, own),
            refcount_table,
            int(np.count_nonzero(lost)),
            _first_overlap(ranges),
            union(ranges).reshape(-1),
        )

    def beneath(self, ranges: NDArray[np.int64]) -> int | None:
        """Return the first host offset of the first of `ranges`, int64, shape (n, 2), that lies on a table."""
        low = self.edges.searchsorted(ranges[:, 0], "right")
        hit = (low % 2 == 1) | (low != self.edges.searchsorted(ranges[:, 1], "left"))
        if not hit.any():
            return None
        index = int(hit.argmax())
        start = int(ranges[index, 0])
        return start if low[index] % 2 else int(self.edges[low[index]])


def _first_overlap(ranges: NDArray[np.int64]) -> int | None:
    """Return the lowest offset within two of `ranges`, which are sorted."""
    reach = np.maximum.accumulate(ranges[:-1, 1])
    twice = ranges[1:, 0][ranges[1:, 0] < reach]
    return int(twice[0]) if len(twice) else None


def _l1_ranges(member: Member, header: Header) -> tuple[Range, Sequence[Range]]:
    """Return where the L1 table of the member lies, and those of all states of its file, the active one first."""
    active = _range(header.l1_table_offset, header.l1_size * 8)
    snapshots = read_snapshots(member.file, header)
    taken = [
        _range(s.l1_table_offset, min(s.l1_size * 8, L1_MAX_BYTES) if s.l1_table_offset < member.file.size else 0)
        for s in snapshots
    ]
    own = active if member.snapshot is None else taken[snapshot_labels(snapshots).index(member.snapshot)]
    return own, [active, *taken]


def _l2_offsets(file: HostFile, l1_tables: Sequence[Range], cluster_size: int) -> NDArray[np.int64]:
    """Return the host offsets of the L2 tables, each once: states share them."""
    found = [np.empty(0, np.int64)]
    for l1_table in l1_tables:
        with suppress(FormatError):
            offsets = decode_l1(_read(file, l1_table), cluster_size)
            found.append(offsets[(offsets != 0) & (offsets < file.size)])
    return np.unique(np.concatenate(found))


def _read(file: HostFile, place: Range) -> bytes:
    length = place[1] - place[0]
    return file.read_at(place[0], length) if place[0] < file.size else bytes(length)


def _range(offset: int, length: int) -> Range:
    return (offset, offset + length) if length else (0, 0)


def _starting_at(offsets: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return np.stack([offsets, offsets + length], 1)
