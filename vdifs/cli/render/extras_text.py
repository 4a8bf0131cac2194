"""What an image holds besides its disk: internal snapshots and dirty bitmaps, in words and as qemu-img's JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vdifs.cli.render.text import json_name, size_text
from vdifs.formats.qcow2.bitmaps import Bitmap, BitmapFlag
from vdifs.formats.qcow2.snapshots import Snapshot, snapshot_labels

__all__ = ["bitmap_fields", "bitmaps_json", "snapshot_fields", "snapshots_json"]

_NO_ICOUNT = (1 << 64) - 1
_SECOND = 1_000_000_000


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


def bitmaps_json(bitmaps: Sequence[Bitmap]) -> list[dict[str, Any]]:
    """Return the list `bitmaps` of the format-specific data of `qemu-img info --output=json`."""
    return [{"flags": _flags(b), **json_name("name", b.name), "granularity": b.granularity} for b in bitmaps]


def _as_signed(value: int) -> int:
    """Return an unsigned 64-bit number as QEMU's JSON has it."""
    return value - (value >> 63 << 64)


def _flags(bitmap: Bitmap) -> list[str]:
    names = {BitmapFlag.IN_USE: "in-use", BitmapFlag.AUTO: "auto"}
    return [name for flag, name in names.items() if bitmap.flags & flag]
