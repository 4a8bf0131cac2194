"""What a VHD holds besides its disk, in words and as JSON. Pure. Fields have the names of docs/formats.md, VHD."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vdifs.formats.image_format import Description
from vdifs.formats.vhd.footer import NO_OFFSET, DiskType, Footer, creator_name
from vdifs.formats.vhd.header import Header
from vdifs.formats.vhd.parent_names import LocatorName
from vdifs.wording import counted, json_name, size_text, size_with_bytes

__all__ = ["VhdDescription"]

_EPOCH_S = 946_684_800
"""2000-01-01, from which a VHD counts."""
_TYPES = {DiskType.FIXED: "fixed", DiskType.DYNAMIC: "dynamic", DiskType.DIFFERENCING: "differencing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdDescription(Description):
    """What a VHD tells of itself. notes: what its user should know of how it was found."""

    footer: Footer
    header: Header | None
    names: tuple[LocatorName, ...]
    notes: tuple[str, ...]

    def warnings(self) -> list[str]:
        """See Description."""
        return list(self.notes)

    def fields(self, full_backing_name: str | None) -> dict[str, object]:  # noqa: ARG002 - parents are known by identity
        """See Description."""
        return _footer_fields(self.footer) | ({} if self.header is None else self._header_fields(self.header))

    def as_qemu(self) -> dict[str, Any]:
        """See Description."""
        value: dict[str, Any] = {} if self.header is None else {"cluster-size": self.header.block_size}
        value["format-specific"] = {"type": "vpc", "data": self.all_fields()}
        value["hidden"] = self.footer.hidden_flag != 0
        return value

    def all_fields(self) -> dict[str, Any]:
        """See Description."""
        value = _footer_json(self.footer)
        if self.header is not None:
            value["header"] = self._header_json(self.header)
        return value

    def _header_fields(self, h: Header) -> dict[str, object]:
        fields: dict[str, object] = {
            "header": f"at {self.footer.header_offset:#x}",
            "block size": size_with_bytes(h.block_size),
            "block allocation table": f"{counted(h.bat_entries, 'entry', 'entries')}, {size_text(h.bat_length)}"
            f" at {h.bat_offset:#x}",
        }
        if self.footer.disk_type is DiskType.DIFFERENCING:
            fields["parent UUID"] = h.parent_uuid
            fields["parent time stamp"] = _date(h.parent_time_stamp)
            fields["parent name"] = _utf16(h.parent_name) or "none"
            for number, (code, name) in enumerate(self.names, 1):
                fields[f"parent locator {number}"] = f"{code.decode('latin-1')}: {name}"
        return fields

    def _header_json(self, h: Header) -> dict[str, Any]:
        return {
            "next_offset": h.next_offset,
            "bat_offset": h.bat_offset,
            "version": h.version,
            "bat_entries": h.bat_entries,
            "block_size": h.block_size,
            "checksum": h.checksum,
            "parent_uuid": str(h.parent_uuid),
            "parent_time_stamp": h.parent_time_stamp,
            "parent_name": _utf16(h.parent_name),
            "parent_locators": [
                {"code": each.code.decode("latin-1"), "length": each.length, "offset": each.offset}
                for each in h.locators
                if each.code != bytes(4)
            ],
            "parent_locator_names": [
                {"code": code.decode("latin-1"), **json_name("name", name)} for code, name in self.names
            ],
        }


def _footer_fields(f: Footer) -> dict[str, object]:
    by = "geometry" if f.sized_by_geometry else "current size"
    host = f.creator_os.rstrip(b"\0 ").decode("latin-1") or "none stated"
    return {
        "disk type": f"{f.disk_type.value} ({_TYPES[f.disk_type]})",
        "version": f"{f.version >> 16}.{f.version & 0xFFFF}",
        "features": f"{f.features:#x}",
        "created": _date(f.time_stamp),
        "creator": f"{creator_name(f.creator)} {f.creator_version >> 16}.{f.creator_version & 0xFFFF}, host OS {host}",
        "original size": size_with_bytes(f.original_size),
        "current size": size_with_bytes(f.current_size),
        "geometry": f"{f.cylinders} cylinders, {f.heads} heads, {f.sectors} sectors",
        "sized by": by,
        "UUID": f.uuid,
        "saved state": f.saved_state,
        "hidden": "yes, XCP-ng's mark" if f.hidden_flag else "no",
        "checksum": f"{f.checksum:#010x}",
    }


def _footer_json(f: Footer) -> dict[str, Any]:
    return {
        "features": f.features,
        "version": f.version,
        "header_offset": None if f.header_offset == NO_OFFSET else f.header_offset,
        "time_stamp": f.time_stamp,
        "creator": f.creator.decode("latin-1"),
        "creator_version": f.creator_version,
        "creator_os": f.creator_os.decode("latin-1"),
        "original_size": f.original_size,
        "current_size": f.current_size,
        "cylinders": f.cylinders,
        "heads": f.heads,
        "sectors": f.sectors,
        "disk_type": int(f.disk_type),
        "disk_type_name": _TYPES[f.disk_type],
        "checksum": f.checksum,
        "uuid": str(f.uuid),
        "saved_state": f.saved_state,
        "hidden": f.hidden_flag,
        "sized_by_geometry": f.sized_by_geometry,
    }


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(_EPOCH_S + seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _utf16(name: bytes) -> str:
    return name.decode("utf-16-be", "replace")
