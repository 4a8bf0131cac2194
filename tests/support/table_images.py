"""Images made of an L1 table and L2 entries of any value, written without QEMU: a model says what they mean."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vdifs.formats.qcow2.header import Header, Incompatible

COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1


@dataclass(frozen=True)
class Tables:
    """What to write: one word per guest cluster, two with extended L2; those that are left out are 0."""

    cluster_bits: int
    size: int
    entries: Mapping[int, int]
    bitmaps: Mapping[int, int] | None = None
    version: int = 3
    data_clusters: int = 8

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def entries_per_table(self) -> int:
        return self.cluster_size // (8 if self.bitmaps is None else 16)

    @property
    def clusters(self) -> int:
        return -(-self.size // self.cluster_size)

    @property
    def first_data(self) -> int:
        """The host offset of the first data cluster; header, refcount table, L1 and L2 tables lie before it."""
        return (2 + self._l1_clusters + len(self._tables)) << self.cluster_bits

    @property
    def _l1_size(self) -> int:
        return -(-self.clusters // self.entries_per_table)

    @property
    def _l1_clusters(self) -> int:
        return max(1, -(-self._l1_size * 8 // self.cluster_size))

    @property
    def _tables(self) -> list[int]:
        """The L1 indices that have an L2 table."""
        return sorted({cluster // self.entries_per_table for cluster in self.entries})

    @property
    def header(self) -> Header:
        return Header(
            version=self.version,
            backing_file_offset=0,
            backing_file_size=0,
            cluster_bits=self.cluster_bits,
            size=self.size,
            crypt_method=0,
            l1_size=self._l1_size,
            l1_table_offset=2 << self.cluster_bits,
            refcount_table_offset=1 << self.cluster_bits,
            refcount_table_clusters=1,
            nb_snapshots=0,
            snapshots_offset=0,
            incompatible_features=0 if self.bitmaps is None else Incompatible.EXTENDED_L2,
            header_length=72 if self.version == 2 else 104,
        )

    def write(self, path: Path) -> None:
        """Write a new file: tables first, then `data_clusters` of data."""
        path.unlink(missing_ok=True)  # rewriting a file in place would make ext4 flush it
        l2_first = 2 + self._l1_clusters
        with path.open("wb") as file:
            file.write(self.header.pack())
            for place, index in enumerate(self._tables, l2_first):
                file.seek((2 << self.cluster_bits) + index * 8)
                file.write(struct.pack(">Q", place << self.cluster_bits | COPIED))
                file.seek(place << self.cluster_bits)
                file.write(self._table(index))
            file.seek(self.first_data)
            for number in range(self.data_clusters):
                file.write(bytes([number + 1]) * self.cluster_size)

    def _table(self, index: int) -> bytes:
        clusters = range(index * self.entries_per_table, (index + 1) * self.entries_per_table)
        if self.bitmaps is None:
            words = [self.entries.get(cluster, 0) for cluster in clusters]
        else:
            words = [
                word for cluster in clusters for word in (self.entries.get(cluster, 0), self.bitmaps.get(cluster, 0))
            ]
        return struct.pack(f">{len(words)}Q", *words)
