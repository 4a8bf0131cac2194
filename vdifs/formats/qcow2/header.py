"""The header: `parse` and `pack` are inverse; what no reader may accept, `parse` refuses.

Messages name the field and its value; the caller, which knows the file, puts its name in front.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from vdifs.errors import FormatError, UnsupportedError, printable
from vdifs.formats.qcow2.extensions import (
    Extension,
    ExtensionType,
    decode_name,
    encode_name,
    feature_names,
    pack_extensions,
    parse_extensions,
)
from vdifs.formats.qcow2.geometry import (
    L1_MAX_BYTES,
    MAX_CLUSTER_BITS,
    MIN_CLUSTER_BITS,
    REFCOUNT_TABLE_MAX_BYTES,
    Geometry,
)
from vdifs.units import SECTOR, ceil_div, round_down

__all__ = [
    "MAGIC",
    "MAX_BACKING_NAME",
    "NO_MAGIC",
    "Autoclear",
    "Compatible",
    "CompressionType",
    "Header",
    "Incompatible",
    "check_place",
]

MAGIC = b"QFI\xfb"
NO_MAGIC = "its first bytes are not 'QFI\\xfb'"
"""What is said of a file that begins in another way."""
MAX_BACKING_NAME = 1023
MAX_SNAPSHOTS = 65536
V2_LENGTH, V3_LENGTH = 72, 104
V2_REFCOUNT_ORDER = 4
INT64_MAX = (1 << 63) - 1

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_CRYPT_NAMES = {1: "AES", 2: "LUKS"}


class Incompatible(IntEnum):
    """Features that a reader must know."""

    DIRTY = 1 << 0
    CORRUPT = 1 << 1
    DATA_FILE = 1 << 2
    COMPRESSION_TYPE = 1 << 3
    EXTENDED_L2 = 1 << 4


class Compatible(IntEnum):
    """Features that a reader may ignore."""

    LAZY_REFCOUNTS = 1 << 0


class Autoclear(IntEnum):
    """Features that a writer that does not know them must clear."""

    BITMAPS = 1 << 0
    RAW_EXTERNAL_DATA = 1 << 1


class CompressionType(IntEnum):
    """How compressed clusters are packed."""

    DEFLATE = 0
    ZSTD = 1


_KNOWN = sum(Incompatible)
_COMPRESSION_TYPES = frozenset(CompressionType)


@dataclass(frozen=True, slots=True)
class Header:
    """The fields in the order of the specification, under its names; offsets and sizes in bytes."""

    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    refcount_order: int = 4
    header_length: int = V3_LENGTH
    compression_type: int = CompressionType.DEFLATE
    extensions: tuple[Extension, ...] = ()
    backing_file: str | None = None

    @classmethod
    def parse(cls, head: bytes, *, corrupt_too: bool = False) -> "Header":
        """Return the header in `head`, the file's first cluster (its first 2 MiB will do, or the whole shorter file).

        Follows qcow2_do_open. Raises FormatError where a rule is broken, and for an image that is marked corrupt unless
        corrupt_too, UnsupportedError for encryption and for incompatible features that are not known.
        """
        values = _parse_fields(head)
        h = cls(*values)
        _check_encryption(h)
        _check_tables(h)
        _check_backing_area(h)
        end = h.backing_file_offset or h.cluster_size
        room = max(end - h.header_length, 0)
        extensions = parse_extensions(head[h.header_length : end], h.header_length, room)
        _check_features(h, extensions)
        if h.corrupt and not corrupt_too:
            raise FormatError("the image is marked corrupt", remedy="repair it with 'qemu-img check -r all' first")
        values = *values, extensions, _backing_name(h, head)
        return cls(*values)

    def pack(self) -> bytes:
        """Return the header, its extensions and the backing file name, as they start the file."""
        fixed = _V2.pack(
            MAGIC,
            self.version,
            self.backing_file_offset,
            self.backing_file_size,
            self.cluster_bits,
            self.size,
            self.crypt_method,
            self.l1_size,
            self.l1_table_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            self.nb_snapshots,
            self.snapshots_offset,
        )
        if self.version >= 3:
            fixed += _V3.pack(
                self.incompatible_features,
                self.compatible_features,
                self.autoclear_features,
                self.refcount_order,
                self.header_length,
            )
            fixed += bytes([self.compression_type])
            fixed = fixed[: self.header_length].ljust(self.header_length, b"\0")
        packed = fixed + pack_extensions(self.extensions)
        if self.backing_file is None:
            return packed
        return packed.ljust(self.backing_file_offset, b"\0") + encode_name(self.backing_file)

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def virtual_size(self) -> int:
        """Bytes of guest disk: QEMU rounds the size field down to whole sectors."""
        return round_down(self.size, SECTOR)

    @property
    def refcount_bits(self) -> int:
        """Bits in a refcount."""
        return 1 << self.refcount_order

    @property
    def corrupt(self) -> bool:
        """Tell whether QEMU found damage and marked the image."""
        return bool(self.incompatible_features & Incompatible.CORRUPT)

    @property
    def extended_l2(self) -> bool:
        """Tell whether L2 entries have subclusters."""
        return bool(self.incompatible_features & Incompatible.EXTENDED_L2)

    @property
    def geometry(self) -> Geometry:
        """The quantities that follow."""
        return Geometry(self.cluster_bits, self.virtual_size, self.extended_l2)

    @property
    def backing_format(self) -> str | None:
        """The stated format of the backing file, None where none is stated, or an empty one."""
        return self._text(ExtensionType.BACKING_FORMAT) or None

    @property
    def data_file(self) -> str | None:
        """The name of the external data file, None where none is stated."""
        return self._text(ExtensionType.DATA_FILE)

    @property
    def hidden(self) -> bool:
        """Tell whether XCP-ng marked the image as hidden."""
        return any(e.type == ExtensionType.HIDDEN for e in self.extensions)

    def _text(self, kind: ExtensionType) -> str | None:
        return next((decode_name(e.data) for e in reversed(self.extensions) if e.type == kind), None)


def _parse_fields(head: bytes) -> tuple[Any, ...]:
    """Return the values of the fields of a header before `extensions`, in order."""
    if head[:4] != MAGIC:
        raise FormatError(f"not a qcow2 image: {NO_MAGIC}")
    if len(head) < V2_LENGTH:
        raise FormatError(f"the header ends after {len(head)} bytes, expected at least {V2_LENGTH}")
    version, *v2 = _V2.unpack_from(head)[1:]
    if version not in (2, 3):
        raise UnsupportedError(f"qcow2 version {version} is not supported, only 2 and 3")
    cluster_bits = v2[2]
    if not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
        raise FormatError(f"cluster_bits is {cluster_bits}, expected {MIN_CLUSTER_BITS} to {MAX_CLUSTER_BITS}")
    if version == 2:
        return version, *v2, 0, 0, 0, V2_REFCOUNT_ORDER, V2_LENGTH, CompressionType.DEFLATE
    if len(head) < V3_LENGTH:
        raise FormatError(f"the header ends after {len(head)} bytes, expected at least {V3_LENGTH}")
    *features, refcount_order, header_length = _V3.unpack_from(head, V2_LENGTH)
    if not V3_LENGTH <= header_length <= 1 << cluster_bits:
        raise FormatError(
            f"header_length is {header_length}, expected {V3_LENGTH} to {1 << cluster_bits}, the cluster size"
        )
    if refcount_order > 6:
        raise FormatError(f"refcount_order is {refcount_order}, expected 0 to 6")
    compression_type = head[V3_LENGTH] if header_length > V3_LENGTH and len(head) > V3_LENGTH else 0
    return version, *v2, *features, refcount_order, header_length, compression_type


def _check_encryption(h: Header) -> None:
    if h.crypt_method in _CRYPT_NAMES:
        raise UnsupportedError(
            f"the image is encrypted ({_CRYPT_NAMES[h.crypt_method]})",
            remedy="vdifs does not decrypt; convert it with qemu-img and its secret first",
        )
    if h.crypt_method:
        raise FormatError(f"crypt_method is {h.crypt_method}, expected 0 to 2")


def _check_tables(h: Header) -> None:
    _check_table("L1 table", h, h.l1_table_offset, h.l1_size * 8, L1_MAX_BYTES)
    needed = ceil_div(h.size, h.geometry.l2_coverage)
    if h.l1_size < needed:
        raise FormatError(f"l1_size is {h.l1_size}, but a disk of {h.size} bytes needs {needed} entries")
    if not h.refcount_table_clusters:
        raise FormatError("refcount_table_clusters is 0: the image has no refcount table")
    table = h.refcount_table_clusters << h.cluster_bits
    _check_table("refcount table", h, h.refcount_table_offset, table, REFCOUNT_TABLE_MAX_BYTES)
    _check_table("snapshot table", h, h.snapshots_offset, h.nb_snapshots * 40, MAX_SNAPSHOTS * 40)


def _check_table(name: str, h: Header, offset: int, length: int, limit: int) -> None:
    """Follow qcow2_validate_table."""
    if length > limit:
        raise FormatError(f"the {name} is {length} bytes long, at most {limit} are allowed")
    check_place(name, offset, length, h.cluster_size)


def check_place(name: str, offset: int, length: int, cluster_size: int) -> None:
    """Raise FormatError unless the table `name` starts with a cluster and ends where a file can."""
    if offset % cluster_size:
        raise FormatError(f"the {name} is at {offset:#x}, which is no multiple of the cluster size {cluster_size:#x}")
    if offset + length > INT64_MAX:
        raise FormatError(f"the {name} is at {offset:#x}, beyond what a file can hold, {INT64_MAX:#x} bytes")


def _check_backing_area(h: Header) -> None:
    if not h.backing_file_offset:
        return
    if h.backing_file_offset > h.cluster_size:
        raise FormatError(f"the backing file name is at {h.backing_file_offset:#x}, outside the first cluster")
    longest = min(MAX_BACKING_NAME, h.cluster_size - h.backing_file_offset)
    if h.backing_file_size > longest:
        raise FormatError(f"the backing file name is {h.backing_file_size} bytes long, at most {longest} are allowed")


def _check_features(h: Header, extensions: tuple[Extension, ...]) -> None:
    if unknown := h.incompatible_features & ~_KNOWN:
        names = {n.bit: n.name for n in feature_names(extensions) if n.kind == 0}
        listed = [printable(names.get(b, "")) or f"bit {b}" for b in range(64) if unknown >> b & 1]
        raise UnsupportedError(f"unknown incompatible feature: {', '.join(listed)}; a newer program wrote this image")
    if h.extended_l2 and h.cluster_bits < 14:
        raise FormatError(f"cluster_bits is {h.cluster_bits}, but extended L2 entries need at least 14")
    if bool(h.incompatible_features & Incompatible.COMPRESSION_TYPE) != (h.compression_type != 0):
        raise FormatError(
            f"compression_type is {h.compression_type}, which contradicts the incompatible feature bit for it"
        )
    if h.compression_type not in _COMPRESSION_TYPES:
        raise UnsupportedError(f"compression_type is {h.compression_type}, only 0 (deflate) and 1 (zstd) are known")
    for extension in extensions:
        if extension.type == ExtensionType.BACKING_FORMAT and len(extension.data) >= 16:
            raise FormatError(f"the backing format is {len(extension.data)} bytes long, at most 15 are allowed")
        if extension.type == ExtensionType.LUKS_HEADER:
            raise FormatError("the image has a LUKS header, but its crypt_method says that it is not encrypted")


def _backing_name(h: Header, head: bytes) -> str | None:
    if not h.backing_file_offset:
        return None
    name = head[h.backing_file_offset : h.backing_file_offset + h.backing_file_size]
    if len(name) < h.backing_file_size:
        raise FormatError(f"the file ends inside the backing file name at {h.backing_file_offset:#x}")
    return decode_name(name) or None
