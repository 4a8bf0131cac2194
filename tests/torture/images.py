"""Where the parts of a sound qcow2 image lie, so that one can be hit on purpose."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["COMPRESSED", "COPIED", "FIELDS", "OFFSETS", "ZERO", "Anatomy", "Field"]

COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSETS = (1 << 56) - 512
_EXTENDED = 1 << 4


class Field(NamedTuple):
    """A field of the header. code: of `struct`."""

    name: str
    offset: int
    code: str


FIELDS = [
    Field("magic", 0, "I"),
    Field("version", 4, "I"),
    Field("backing_file_offset", 8, "Q"),
    Field("backing_file_size", 16, "I"),
    Field("cluster_bits", 20, "I"),
    Field("size", 24, "Q"),
    Field("crypt_method", 32, "I"),
    Field("l1_size", 36, "I"),
    Field("l1_table_offset", 40, "Q"),
    Field("refcount_table_offset", 48, "Q"),
    Field("refcount_table_clusters", 56, "I"),
    Field("nb_snapshots", 60, "I"),
    Field("snapshots_offset", 64, "Q"),
    Field("incompatible_features", 72, "Q"),
    Field("compatible_features", 80, "Q"),
    Field("autoclear_features", 88, "Q"),
    Field("refcount_order", 96, "I"),
    Field("header_length", 100, "I"),
    Field("compression_type", 104, "B"),
]


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
        if image[:4] != b"QFI\xfb" or len(image) < 104:
            return None
        values = {field.name: struct.unpack_from(f">{field.code}", image, field.offset)[0] for field in FIELDS}
        three = values["version"] >= 3
        bits = values["cluster_bits"]
        entry_size = 16 if three and values["incompatible_features"] & _EXTENDED else 8
        start = values["header_length"] if three else 72
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
            packed=tuple(_packed(word, bits) for word in words if word & COMPRESSED),
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


def _packed(word: int, bits: int) -> tuple[int, int]:
    split = 62 - (bits - 8)
    offset = word & (1 << split) - 1
    sectors = (word >> split & (1 << bits - 8) - 1) + 1
    return offset, sectors * 512 - (offset & 511)


def _refcounts(image: bytes | bytearray, table: int) -> tuple[int, ...]:
    blocks = {_word(image, at) & ~511 for at in range(table, min(table + 512, len(image)), 8)} - {0}
    return table, *sorted(block for block in blocks if block < len(image))
