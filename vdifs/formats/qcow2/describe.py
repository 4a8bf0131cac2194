"""What a qcow2 holds besides its disk, in words and as JSON: header, internal snapshots, dirty bitmaps. Pure.

Fields have the specification's names; JSON that qemu-img has too is as qemu-img writes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from vdifs.formats.image_format import Description
from vdifs.formats.qcow2.bitmaps import Bitmap, BitmapFlag
from vdifs.formats.qcow2.extensions import Extension, ExtensionType, feature_names
from vdifs.formats.qcow2.header import Autoclear, Compatible, CompressionType, Header, Incompatible
from vdifs.formats.qcow2.snapshots import Snapshot, snapshot_labels
from vdifs.units import SECTOR
from vdifs.wording import counted, json_name, size_text, size_with_bytes

__all__ = [
    "Qcow2Description",
    "bitmap_fields",
    "header_fields",
    "header_json",
    "header_warnings",
    "qemu_format_specific",
    "snapshot_fields",
    "snapshots_json",
]

_CRYPT_METHODS = {0: "none", 1: "AES", 2: "LUKS"}
_COMPRESSION_NAMES = {CompressionType.DEFLATE: "zlib", CompressionType.ZSTD: "zstd"}
_FEATURE_WORDS: list[tuple[str, type[IntEnum]]] = [
    ("incompatible", Incompatible),
    ("compatible", Compatible),
    ("autoclear", Autoclear),
]
_NO_ICOUNT = (1 << 64) - 1
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2Description(Description):
    """What a qcow2 tells of itself."""

    header: Header
    snapshots: tuple[Snapshot, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()

    def warnings(self) -> list[str]:
        """See Description."""
        return header_warnings(self.header)

    def fields(self, full_backing_name: str | None) -> dict[str, object]:
        """See Description."""
        return (
            header_fields(self.header, full_backing_name)
            | snapshot_fields(self.snapshots)
            | bitmap_fields(self.bitmaps)
        )

    def as_qemu(self) -> dict[str, Any]:
        """See Description."""
        value: dict[str, Any] = {
            "cluster-size": self.header.cluster_size,
            "dirty-flag": bool(self.header.incompatible_features & Incompatible.DIRTY),
            "format-specific": {"type": "qcow2", "data": qemu_format_specific(self.header, self.bitmaps)},
            "hidden": self.header.hidden,
        }
        if self.snapshots:
            value["snapshots"] = snapshots_json(self.snapshots)
        return value

    def all_fields(self) -> dict[str, Any]:
        """See Description."""
        return header_json(self.header)


def header_fields(header: Header, full_backing_name: str | None) -> dict[str, object]:
    """Return a description of every field, in an order that reads well. full_backing_name: as seen from here."""
    h, geometry = header, header.geometry
    refcount_block_entries = h.cluster_size * 8 // h.refcount_bits
    refcount_table_bytes = h.refcount_table_clusters * h.cluster_size
    fields: dict[str, object] = {
        "version": f"{h.version} (compat {_compat(h)})",
        "header length": h.header_length,
        "size in header": h.size,
        "backing file": "none",
    }
    if h.backing_file is not None:
        actual = "" if full_backing_name == h.backing_file else f" (actual path: {full_backing_name})"
        fields["backing file"] = h.backing_file + actual
        fields["backing file format"] = h.backing_format or "not stated"
        fields["backing file name"] = f"{counted(h.backing_file_size, 'byte', 'bytes')} at {h.backing_file_offset:#x}"
    fields |= {
        "crypt method": f"{h.crypt_method} ({_CRYPT_METHODS[h.crypt_method]})",
        "cluster size": f"{size_with_bytes(h.cluster_size)}, {h.cluster_bits} bits",
        "sectors per cluster": h.cluster_size // SECTOR,
    }
    if h.extended_l2:
        fields["subcluster size"] = size_with_bytes(geometry.grain)
    fields |= {
        "refcount table size": f"{refcount_table_bytes // 8} entries, {size_text(refcount_table_bytes)}"
        f" in {counted(h.refcount_table_clusters, 'cluster', 'clusters')} at {h.refcount_table_offset:#x}",
        "refcount block size": f"{refcount_block_entries} entries",
        "refcount bits": f"{h.refcount_bits} (order {h.refcount_order})",
        "L1 size": f"{counted(h.l1_size, 'entry', 'entries')}, {size_text(h.l1_size * 8)} at {h.l1_table_offset:#x}",
        "L2 size": f"{geometry.l2_entries} entries, {size_text(h.cluster_size)};"
        f" a table maps {size_text(geometry.l2_coverage)}",
        "snapshots": f"{h.nb_snapshots}, table at {h.snapshots_offset:#x}" if h.nb_snapshots else 0,
    }
    for kind, (word, bits) in enumerate(_FEATURE_WORDS):
        value = getattr(h, f"{word}_features")
        fields[f"{word} features"] = f"{value:#x} ({', '.join(_bit_names(h, kind, bits)) or 'none'})"
    fields["compression type"] = f"{h.compression_type} ({_COMPRESSION_NAMES[CompressionType(h.compression_type)]})"
    if h.data_file is not None:
        fields["data file"] = h.data_file
    if h.hidden:
        fields["hidden"] = "yes, XCP-ng's mark"
    for number, extension in enumerate(h.extensions, 1):
        fields[f"extension {number}"] = (
            f"{extension.type:#010x} ({_meaning(extension)}), {counted(len(extension.data), 'byte', 'bytes')}"
        )
    return fields


def header_json(header: Header) -> dict[str, Any]:
    """Return the fields under their names in the specification, the names of feature bits beside their words."""
    h = header
    value: dict[str, Any] = {
        "version": h.version,
        "backing_file_offset": h.backing_file_offset,
        "backing_file_size": h.backing_file_size,
        "cluster_bits": h.cluster_bits,
        "size": h.size,
        "crypt_method": h.crypt_method,
        "l1_size": h.l1_size,
        "l1_table_offset": h.l1_table_offset,
        "refcount_table_offset": h.refcount_table_offset,
        "refcount_table_clusters": h.refcount_table_clusters,
        "nb_snapshots": h.nb_snapshots,
        "snapshots_offset": h.snapshots_offset,
    }
    for kind, (word, bits) in enumerate(_FEATURE_WORDS):
        value[f"{word}_features"] = getattr(h, f"{word}_features")
        value[f"{word}_feature_names"] = _bit_names(h, kind, bits)
    return value | {
        "refcount_order": h.refcount_order,
        "header_length": h.header_length,
        "compression_type": h.compression_type,
        "extensions": [
            {"type": extension.type, "meaning": _meaning(extension), "length": len(extension.data)}
            for extension in h.extensions
        ],
        "sectors_per_cluster": h.cluster_size // SECTOR,
        "l2_entries": h.geometry.l2_entries,
        "refcount_table_entries": h.refcount_table_clusters * h.cluster_size // 8,
        "refcount_block_entries": h.cluster_size * 8 // h.refcount_bits,
    }


def header_warnings(header: Header) -> list[str]:
    """Return what the user of an image with this header should know."""
    found = []
    if header.corrupt:
        found.append("marked corrupt: not served; repair it with 'qemu-img check -r all' first")
    if header.incompatible_features & Incompatible.DIRTY:
        found.append("marked dirty: not closed properly; its refcounts may be wrong, its data are served")
    if header.backing_file is not None and header.backing_format is None:
        found.append("no backing file format stated: the backing file is followed only if it is a qcow2")
    return found


def qemu_format_specific(header: Header, bitmaps: Sequence[Bitmap] = ()) -> dict[str, Any]:
    """Return what `qemu-img info --output=json` has as format-specific data (qcow2_get_specific_info)."""
    value = _of_version(header)
    if bitmaps:
        value["bitmaps"] = _bitmaps_json(bitmaps)
    return value


def snapshot_fields(snapshots: Sequence[Snapshot]) -> dict[str, object]:
    """Return a line for each snapshot: how vdifs calls it, when it was taken, its sizes."""
    fields: dict[str, object] = {}
    for label, s in zip(snapshot_labels(snapshots), snapshots, strict=True):
        taken = datetime.fromtimestamp(s.date_sec, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        disk = "" if s.disk_size is None else f", disk {size_text(s.disk_size)}"
        fields[f"snapshot @{label}"] = f"ID {s.id}, {taken}{disk}, VM state {size_text(s.vm_state_size)}"
    return fields


def snapshots_json(snapshots: Sequence[Snapshot]) -> list[dict[str, Any]]:
    """Return the list `snapshots` of `qemu-img info --output=json`, with the disk size and vdifs's label besides."""
    values = []
    for label, s in zip(snapshot_labels(snapshots), snapshots, strict=True):
        value: dict[str, Any] = {
            **json_name("name", s.name),
            **json_name("id", s.id),
            "vm-state-size": _as_signed(s.vm_state_size),
            "date-sec": s.date_sec,
            "date-nsec": s.date_nsec,
            "vm-clock-sec": s.vm_clock_nsec // _SECOND,
            "vm-clock-nsec": s.vm_clock_nsec % _SECOND,
            **json_name("label", label),
        }
        if s.icount is not None and s.icount != _NO_ICOUNT:
            value["icount"] = s.icount
        if s.disk_size is not None:
            value["disk-size"] = s.disk_size
        values.append(value)
    return values


def bitmap_fields(bitmaps: Sequence[Bitmap]) -> dict[str, object]:
    """Return a line for each bitmap."""
    return {
        f"bitmap {b.name}": f"granularity {size_text(b.granularity)}, {', '.join(_flags(b)) or 'no flags'}, not copied"
        for b in bitmaps
    }


def _of_version(h: Header) -> dict[str, Any]:
    compression = _COMPRESSION_NAMES[CompressionType(h.compression_type)]
    if h.version == 2:
        return {"compat": _compat(h), "compression-type": compression, "refcount-bits": h.refcount_bits}
    value: dict[str, Any] = {
        "compat": _compat(h),
        "compression-type": compression,
        "lazy-refcounts": bool(h.compatible_features & Compatible.LAZY_REFCOUNTS),
        "refcount-bits": h.refcount_bits,
        "corrupt": h.corrupt,
        "extended-l2": h.extended_l2,
    }
    if h.data_file is not None:
        value |= json_name("data-file", h.data_file)
    if h.incompatible_features & Incompatible.DATA_FILE:
        value["data-file-raw"] = bool(h.autoclear_features & Autoclear.RAW_EXTERNAL_DATA)
    return value


def _compat(header: Header) -> str:
    return "0.10" if header.version == 2 else "1.1"


def _bit_names(header: Header, kind: int, known: type[IntEnum]) -> list[str]:
    """Return the name of each bit set: ours, else that of the image's feature name table, else its number."""
    word = getattr(header, f"{_FEATURE_WORDS[kind][0]}_features")
    names = {each.bit: each.name for each in feature_names(header.extensions) if each.kind == kind}
    names |= {flag.bit_length() - 1: (flag.name or "").lower().replace("_", " ") for flag in known}
    return [names.get(bit) or f"bit {bit}" for bit in range(64) if word >> bit & 1]


def _meaning(extension: Extension) -> str:
    try:
        return ExtensionType(extension.type).name.lower().replace("_", " ")
    except ValueError:
        return "unknown"


def _bitmaps_json(bitmaps: Sequence[Bitmap]) -> list[dict[str, Any]]:
    """Return the list `bitmaps` of the format-specific data of `qemu-img info --output=json`."""
    return [{"flags": _flags(b), **json_name("name", b.name), "granularity": b.granularity} for b in bitmaps]


def _as_signed(value: int) -> int:
    """Return an unsigned 64-bit number as QEMU's JSON has it."""
    return value - (value >> 63 << 64)


def _flags(bitmap: Bitmap) -> list[str]:
    names = {BitmapFlag.IN_USE: "in-use", BitmapFlag.AUTO: "auto"}
    return [name for flag, name in names.items() if bitmap.flags & flag]
