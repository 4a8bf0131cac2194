"""What a VDI holds besides its disk, in words and as JSON. Pure. Fields have the names of docs/formats.md, VDI."""

from dataclasses import dataclass
from typing import Any

from vdifs.formats.image_format import Description
from vdifs.formats.vdi.header import NO_UUID, Header, ImageType
from vdifs.wording import counted, size_text, size_with_bytes

__all__ = ["VdiDescription"]

_TYPES = {ImageType.DYNAMIC: "dynamic", ImageType.STATIC: "static", ImageType.DIFFERENCING: "differencing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VdiDescription(Description):
    """What a VDI tells of itself."""

    header: Header

    def fields(self, full_backing_name: str | None) -> dict[str, object]:  # noqa: ARG002 - parents are known by identity
        """See Description."""
        h = self.header
        fields: dict[str, object] = {
            "image type": f"{h.image_type.value} ({_TYPES[h.image_type]})",
            "version": f"{h.version >> 16}.{h.version & 0xFFFF}, {_text(h.text) or 'no text'}",
            "header": f"{h.header_size} bytes",
            "flags": f"{h.flags:#x}",
            "comment": _text(h.comment) or "none",
            "block size": size_with_bytes(h.block_size),
            "extra data": f"{h.block_extra} bytes in front of each block" if h.block_extra else "none",
            "block map": f"{counted(h.blocks, 'entry', 'entries')}, {size_text(h.map_length)} at {h.map_offset:#x}",
            "data": f"at {h.data_offset:#x}, {counted(h.allocated_blocks, 'block', 'blocks')} by its header",
            "size in header": size_with_bytes(h.disk_size),
            "geometry": _geometry(h.geometry),
            "logical geometry": "none" if h.logical_geometry is None else _geometry(h.logical_geometry[:3]),
            "UUID": h.uuid,
            "modification UUID": h.modification_uuid,
        }
        if h.is_differencing:
            no = h.parent_modification_uuid == NO_UUID
            fields["parent UUID"] = h.parent_uuid
            fields["parent modification UUID"] = "not stated" if no else h.parent_modification_uuid
        return fields

    def as_qemu(self) -> dict[str, Any]:
        """See Description."""
        specific = {"type": "vdi", "data": self.all_fields()}
        return {"cluster-size": self.header.block_size, "format-specific": specific}

    def all_fields(self) -> dict[str, Any]:
        """See Description."""
        h = self.header
        return {
            "text": _text(h.text),
            "version": h.version,
            "header_size": h.header_size,
            "image_type": int(h.image_type),
            "image_type_name": _TYPES[h.image_type],
            "flags": h.flags,
            "comment": _text(h.comment),
            "map_offset": h.map_offset,
            "data_offset": h.data_offset,
            "geometry": list(h.geometry),
            "sector_size": h.sector_size,
            "unused": h.unused,
            "disk_size": h.disk_size,
            "block_size": h.block_size,
            "block_extra": h.block_extra,
            "blocks": h.blocks,
            "allocated_blocks": h.allocated_blocks,
            "uuid": str(h.uuid),
            "modification_uuid": str(h.modification_uuid),
            "parent_uuid": str(h.parent_uuid),
            "parent_modification_uuid": str(h.parent_modification_uuid),
            "logical_geometry": None if h.logical_geometry is None else list(h.logical_geometry),
        }


def _text(field: bytes) -> str:
    """Return the text of a field up to its first NUL."""
    return field.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _geometry(geometry: tuple[int, ...]) -> str:
    cylinders, heads, sectors = geometry
    return f"{cylinders} cylinders, {heads} heads, {sectors} sectors"
