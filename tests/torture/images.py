"""Where the parts of a sound qcow2 image lie, so that one can be hit on purpose."""

from dataclasses import dataclass

from tests.support import qcow2
from tests.support.qcow2 import COMPRESSED, OFFSETS

__all__ = ["Anatomy"]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Offsets in the file. l1: of entries. l2: of entries of tables in use; entry_size: 8, or 16 with extended L2.

    packed: (start, length) of compressed data. snapshots: (start, end) of the table, refcounts: of tables and blocks.
    """

    cluster_bits: int
    version: int
    entry_size: int
    extensions: tuple[int, int]
    backing: tuple[int, int]
    l1: range
    tables: tuple[int, ...]
    used: tuple[int, ...]
    data: tuple[int, ...]
    packed: tuple[tuple[int, int], ...]
    snapshots: tuple[int, int] | None
    refcounts: tuple[int, ...]

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries in an L2 table."""
        return self.cluster_size // self.entry_size

    @classmethod
    def of(cls, image: bytes | bytearray) -> "Anatomy | None":
        """Return the anatomy of an image; None of anything else than a qcow2."""
        if image[:4] != qcow2.MAGIC or len(image) < qcow2.V3_LENGTH:
            return None
        values = {field.name: field.of(image) for field in qcow2.FIELDS}
        three = values["version"] >= 3
        bits = values["cluster_bits"]
        entry_size = 16 if three and values["incompatible_features"] & qcow2.EXTENDED_L2 else 8
        start = values["header_length"] if three else qcow2.V2_LENGTH
        l1 = range(values["l1_table_offset"], values["l1_table_offset"] + 8 * values["l1_size"], 8)
        tables = tuple(sorted({_word(image, at) & OFFSETS for at in l1} - {0}))
        used = tuple(at for table in tables for at in _used(image, table, bits, entry_size))
        words = [_word(image, at) for at in used]
        offset = values["snapshots_offset"]
        return cls(
            cluster_bits=bits,
            version=values["version"],
            entry_size=entry_size,
            extensions=(start, values["backing_file_offset"] or min(start + 512, 1 << bits)),
            backing=(values["backing_file_offset"], values["backing_file_size"]),
            l1=l1,
            tables=tables,
            used=used,
            data=tuple(word & OFFSETS for word in words if not word & COMPRESSED and word & OFFSETS),
            packed=tuple(qcow2.compressed_place(word, bits) for word in words if word & COMPRESSED),
            snapshots=(offset, offset + 64 * values["nb_snapshots"]) if values["nb_snapshots"] else None,
            refcounts=_refcounts(image, values["refcount_table_offset"]),
        )


def _word(image: bytes | bytearray, at: int) -> int:
    if at + 8 > len(image):
        return 0
    return int.from_bytes(image[at : at + 8], "big")


def _used(image: bytes | bytearray, table: int, bits: int, entry_size: int) -> list[int]:
    places = range(table, min(table + (1 << bits), len(image) - 16), entry_size)
    return [at for at in places if any(image[at : at + entry_size])]


def _refcounts(image: bytes | bytearray, table: int) -> tuple[int, ...]:
    blocks = {_word(image, at) & ~511 for at in range(table, min(table + 512, len(image)), 8)} - {0}
    return table, *sorted(block for block in blocks if block < len(image))
