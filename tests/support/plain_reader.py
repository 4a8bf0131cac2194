"""A reader of plain qcow2 files, as short as the specification allows and with nothing of vdifs in it.

It reads what a synthetic file is promised to be (docs/specification.md 2.2) and asserts each promise on the way.
"""

import struct
from dataclasses import dataclass
from enum import Enum

from tests.support import qcow2
from tests.support.qcow2 import COPIED, EXTENDED_L2, ZERO


class Holds(Enum):
    """What an L2 entry says of a cluster, or its bitmap of a subcluster."""

    NOTHING = "nothing"
    ZERO = "zero"
    DATA = "data"


Unit = tuple[Holds, int]  # and where the data lie


@dataclass(frozen=True)
class PlainReader:
    """A whole synthetic file."""

    file: bytes

    def field(self, name: str) -> int:
        return qcow2.value(self.file, name)

    @property
    def cluster_size(self) -> int:
        return 1 << self.field("cluster_bits")

    @property
    def virtual_size(self) -> int:
        return self.field("size")

    @property
    def extended(self) -> bool:
        return self.field("incompatible_features") == EXTENDED_L2

    @property
    def unit_size(self) -> int:
        return self.cluster_size // 32 if self.extended else self.cluster_size

    @property
    def backing_name(self) -> str | None:
        offset, size = self.field("backing_file_offset"), self.field("backing_file_size")
        return self.file[offset : offset + size].decode() if offset else None

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        assert offset + 8 * count <= len(self.file)
        return struct.unpack_from(f">{count}Q", self.file, offset)

    def assert_plain(self) -> None:
        """Version 3, no incompatible bit but the one asked for, 16-bit refcounts, no snapshots, not encrypted."""
        assert self.file[:8] == b"QFI\xfb\0\0\0\3"
        assert self.field("incompatible_features") in (0, EXTENDED_L2)
        assert (self.field("refcount_order"), self.field("header_length")) == (4, 104)
        assert (self.field("crypt_method"), self.field("nb_snapshots")) == (0, 0)
        assert len(self.file) % self.cluster_size == 0

    def assert_refcounts(self) -> None:
        """Every cluster of the file counts 1, none behind it; every cluster is used exactly once."""
        clusters = len(self.file) // self.cluster_size
        counts: list[int] = []
        blocks = [
            word
            for word in self.words(
                self.field("refcount_table_offset"), self.field("refcount_table_clusters") * self.cluster_size // 8
            )
            if word
        ]
        for block in blocks:
            counts += struct.unpack_from(f">{self.cluster_size // 2}H", self.file, block)
        assert counts[:clusters] == [1] * clusters
        assert not any(counts[clusters:])
        assert sorted(self.used_clusters(blocks)) == list(range(clusters))

    def used_clusters(self, blocks: list[int]) -> list[int]:
        """Return the index of every cluster that something points to, as often as something does."""

        def region(offset: int, length: int) -> list[int]:
            return list(range(offset // self.cluster_size, -(-(offset + length) // self.cluster_size)))

        used = [
            0,
            *region(self.field("refcount_table_offset"), self.field("refcount_table_clusters") * self.cluster_size),
        ]
        used += [block // self.cluster_size for block in blocks]
        used += region(self.field("l1_table_offset"), self.field("l1_size") * 8)
        used += [table // self.cluster_size for table in self.l2_tables().values()]
        return used + [place // self.cluster_size for place in self.data_clusters()]

    def l2_tables(self) -> dict[int, int]:
        """Return the offset of each L2 table by its L1 index."""
        entries = self.words(self.field("l1_table_offset"), self.field("l1_size"))
        for entry in entries:
            assert entry == 0 or entry & COPIED
            assert (entry & ~COPIED) % self.cluster_size == 0
        return {index: entry & ~COPIED for index, entry in enumerate(entries) if entry}

    def entries(self) -> list[tuple[int, ...]]:
        """Return the L2 entry of every guest cluster, with its bitmap if entries are extended."""
        step = 2 if self.extended else 1
        per_table = self.cluster_size // 8
        tables = self.l2_tables()
        found: list[tuple[int, ...]] = []
        for index in range(self.field("l1_size")):
            words = self.words(tables[index], per_table) if index in tables else (0,) * per_table
            assert index not in tables or any(words), "an L2 table that holds nothing"
            found += [words[at : at + step] for at in range(0, per_table, step)]
        disk = -(-self.virtual_size // self.cluster_size)
        assert not any(any(entry) for entry in found[disk:])
        return found[:disk]

    def data_clusters(self) -> list[int]:
        """Return where each data cluster lies, in guest order."""
        places = [entry[0] & ~COPIED & ~ZERO for entry in self.entries()]
        return [place for place in places if place]

    def units(self) -> list[Unit]:
        """Return what each cluster, or subcluster, of the disk holds."""
        found = [unit for entry in self.entries() for unit in self._units(*entry)]
        disk = -(-self.virtual_size // self.unit_size)
        assert all(holds is Holds.NOTHING for holds, _ in found[disk:])
        return found[:disk]

    def _units(self, word: int, bitmap: int | None = None) -> list[Unit]:
        place = word & ~COPIED & ~ZERO
        assert bool(word & COPIED) == bool(place)
        assert place % self.cluster_size == 0
        if bitmap is None:
            assert not (place and word & ZERO)
            return [(Holds.DATA if place else Holds.ZERO if word & ZERO else Holds.NOTHING, place)]
        assert not word & ZERO
        assert not (bitmap & bitmap >> 32), "a subcluster that is data and zeros"
        assert bool(place) == bool(bitmap & 0xFFFF_FFFF), "a cluster is stored if a subcluster of it holds data"
        return [self._subcluster(place, bitmap, index) for index in range(32)]

    def _subcluster(self, place: int, bitmap: int, index: int) -> Unit:
        if bitmap >> index & 1:
            return Holds.DATA, place + index * self.unit_size
        return Holds.ZERO if bitmap >> 32 + index & 1 else Holds.NOTHING, 0

    def assert_data_in_guest_order(self) -> None:
        places = self.data_clusters()
        first = len(self.file) - len(places) * self.cluster_size
        assert places == [first + index * self.cluster_size for index in range(len(places))]

    def contents(self, below: bytes) -> bytes:
        """Return the guest contents over a backing disk `below`, which reads as zeros beyond its end."""
        size = self.unit_size
        parts: list[bytes] = []
        for index, (holds, place) in enumerate(self.units()):
            if holds is Holds.DATA:
                parts.append(self.file[place : place + size])
            elif holds is Holds.ZERO:
                parts.append(bytes(size))
            else:
                parts.append(below[index * size : (index + 1) * size].ljust(size, b"\0"))
        return b"".join(parts)[: self.virtual_size]
