"""The qcow2 format as its specification states it: where fields lie, what bits mean, how entries are packed.

The tests' own, with nothing of vdifs in it: what vdifs thinks of the format is held against this.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

MAGIC = b"QFI\xfb"
V2_LENGTH, V3_LENGTH, LONGEST_KNOWN = 72, 104, 112
SECTOR = 512

# Incompatible features
DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
# Autoclear features
BITMAPS_VALID, RAW_EXTERNAL_DATA = 1, 2

# Header extensions
NO_MORE_EXTENSIONS = 0
BACKING_FORMAT = 0xE2792ACA
FEATURE_NAMES = 0x6803F857
BITMAPS = 0x23852875
LUKS_HEADER = 0x0537BE77
DATA_FILE_NAME = 0x44415441
HIDDEN = 0x76617465  # XCP-ng's mark

# Entries of the L1 table and of L2 tables
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSETS = (1 << 56) - 512
"""Bits 9 to 55: where a table or a cluster lies."""

# Rows of tables; what follows each of the last two is padded to 8 bytes
FEATURE_NAME = struct.Struct(">BB46s")  # kind, bit, name
BITMAPS_PLACE = struct.Struct(">IIQQ")  # bitmaps, 0, size and offset of the directory
BITMAP = struct.Struct(
    ">QIIBBHI"
)  # table, its entries, flags, type, granularity bits, length of the name, of the extra
SNAPSHOT = struct.Struct(
    ">QIHHIIQII"
)  # L1 table, entries, lengths of id and name, s, ns, clock, VM state, extra length


class Field(NamedTuple):
    """A field of the header. code: of `struct`, big-endian."""

    name: str
    offset: int
    code: str

    @property
    def size(self) -> int:
        """Bytes of the field."""
        return struct.calcsize(f">{self.code}")

    def of(self, image: bytes | bytearray) -> int:
        """Return its value in an image."""
        return int.from_bytes(image[self.offset : self.offset + self.size], "big")


FIELDS = (
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
)
_BY_NAME = {field.name: field for field in FIELDS}


def named(name: str) -> Field:
    """Return a field by its name in the specification."""
    return _BY_NAME[name]


def value(image: bytes | bytearray, name: str) -> int:
    """Return the value of a field of the header."""
    return _BY_NAME[name].of(image)


def header(**values: int) -> bytes:
    """Return a header of version 3 with 16-bit refcounts, or with these values; the fields that are left out are 0."""
    known = {"magic": int.from_bytes(MAGIC, "big"), "version": 3, "refcount_order": 4, "header_length": V3_LENGTH}
    known |= values
    packed = bytearray(max(LONGEST_KNOWN, known["header_length"]))
    for name, each in known.items():
        struct.pack_into(f">{_BY_NAME[name].code}", packed, _BY_NAME[name].offset, each)
    return bytes(packed[: V2_LENGTH if known["version"] == 2 else known["header_length"]])


def extensions_at(image: bytes | bytearray) -> int:
    """Return where the header extensions begin."""
    return V2_LENGTH if value(image, "version") == 2 else value(image, "header_length")


def extension(kind: int, data: bytes) -> bytes:
    """Return a header extension, padded to 8 bytes."""
    return struct.pack(">II", kind, len(data)) + padded(data)


def extensions_in(area: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the packed bytes of each header extension."""
    at = 0
    while at + 8 <= len(area):
        kind, length = struct.unpack_from(">II", area, at)
        if kind == NO_MORE_EXTENSIONS:
            return
        end = at + 8 + -(-length // 8) * 8
        yield kind, bytes(area[at:end])
        at = end


def padded(data: bytes) -> bytes:
    """Return data with zeros up to a multiple of 8 bytes."""
    return data + bytes(-len(data) % 8)


def words(*values: int) -> bytes:
    """Return table entries as they are stored."""
    return struct.pack(f">{len(values)}Q", *values)


def snapshots_in(image: bytes | bytearray) -> Iterator[bytes]:
    """Yield each entry of the snapshot table, without its padding."""
    at = value(image, "snapshots_offset")
    for _ in range(value(image, "nb_snapshots")):
        fixed: tuple[Any, ...] = SNAPSHOT.unpack_from(image, at)
        end = at + SNAPSHOT.size + fixed[2] + fixed[3] + fixed[8]
        yield bytes(image[at:end])
        at += -(-(end - at) // 8) * 8


def split_bit(cluster_bits: int) -> int:
    """Return the first bit of the number of sectors in the entry of a compressed cluster; its offset lies below."""
    return 62 - (cluster_bits - 8)


def compressed_entry(offset: int, sectors: int, cluster_bits: int) -> int:
    """Return the entry of a compressed cluster whose data touch so many sectors beyond the one that they begin in."""
    return COMPRESSED | sectors << split_bit(cluster_bits) | offset


def compressed_place(entry: int, cluster_bits: int) -> tuple[int, int]:
    """Return offset and length of the data of a compressed cluster, up to the end of their last sector.

    Read bit by bit, as the specification says: with x = 62 - (cluster_bits - 8), bits 0 to x - 1 are the host offset,
    bits x to 61 the number of sectors that the data touch beyond the one that the offset is in.
    """
    x = split_bit(cluster_bits)
    bits = f"{entry:064b}"[::-1]
    offset, additional = (int(f"0{part[::-1]}", 2) for part in (bits[:x], bits[x:62]))
    return offset, (offset // SECTOR + 1 + additional) * SECTOR - offset
