"""What a VMDK tells of itself, in words and as JSON: its descriptor, and the header of a sparse file. Pure.

Fields have VMware's names; JSON that qemu-img has too is as qemu-img writes it.
"""

import posixpath
from dataclasses import dataclass
from typing import Any

from vdifs.errors import printable
from vdifs.formats.image_format import Description
from vdifs.formats.vmdk.descriptor import NO_PARENT, Descriptor
from vdifs.formats.vmdk.hosted_header import HostedFlag, HostedHeader
from vdifs.formats.vmdk.names import preferred
from vdifs.units import SECTOR
from vdifs.wording import counted, json_name, size_with_bytes

__all__ = ["VmdkDescription"]

_MOST_LINES = 16
_UNCLEAN = "it was not closed cleanly: what was written last may be missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmdkDescription(Description):
    """What a VMDK tells of itself. path: of its file. header: None for a descriptor in a file of its own."""

    path: str
    descriptor: Descriptor
    header: HostedHeader | None

    def warnings(self) -> list[str]:
        """See Description."""
        return [_UNCLEAN] if self.header is not None and self.header.unclean_shutdown else []

    def fields(self, full_backing_name: str | None) -> dict[str, object]:  # noqa: ARG002 - it names no backing file
        """See Description."""
        d = self.descriptor
        fields: dict[str, object] = {
            "descriptor": f"version {d.version}, {'in a file of its own' if self.header is None else 'embedded'}",
            "create type": self._text(d.create_type) or "not stated",
            "CID": d.cid or "none",
            "parent CID": f"{d.parent_cid}" if d.has_parent else "none",
        }
        if d.has_parent:
            fields["parent"] = self._text(d.hint)
        if d.encoding:
            fields["encoding"] = self._text(d.encoding)
        if self.header is not None:
            fields |= _header_fields(self.header)
        for number, line in enumerate(d.lines[:_MOST_LINES], 1):
            at = f" at sector {line.offset}" if line.offset else ""
            name = f" in {self._text(line.name)}{at}" if line.name else ""
            size = size_with_bytes(line.sectors * SECTOR)
            fields[f"extent {number}"] = f"{line.access} {line.stated}, {size}{name}"
        if len(d.lines) > _MOST_LINES:
            fields["more extents"] = len(d.lines) - _MOST_LINES
        return fields

    def as_qemu(self) -> dict[str, Any]:
        """See Description."""
        d = self.descriptor
        data = {
            "cid": int(d.cid or "0", 16),
            "parent-cid": int(d.parent_cid or NO_PARENT, 16),
            "create-type": self._text(d.create_type),
            "extents": self._extents(),
        }
        value: dict[str, Any] = {"format-specific": {"type": "vmdk", "data": data}}
        if self.header is not None:
            value["cluster-size"] = self.header.grain_size * SECTOR
        return value

    def all_fields(self) -> dict[str, Any]:
        """See Description."""
        d = self.descriptor
        value: dict[str, Any] = {
            "descriptor": {key: self._text(each) for key, each in d.values.items()},
            "extents": [
                {
                    "access": line.access,
                    "sectors": line.sectors,
                    "type": line.stated,
                    **json_name("name", preferred(line.name, d.encoding)),
                    "offset": line.offset,
                }
                for line in d.lines
            ],
        }
        if self.header is not None:
            value["sparse_header"] = {
                **self.header._asdict(),
                "magic": self.header.magic.decode("latin-1"),
                "newlines": self.header.newlines.hex(),
                "flag_names": _flag_names(self.header),
            }
        return value

    def _extents(self) -> list[dict[str, Any]]:
        """Return the list of extents as qemu-img has it, but for what only their own headers tell."""
        if self.header is not None:
            size, grain = self.header.capacity * SECTOR, self.header.grain_size * SECTOR
            value = {"virtual-size": size, **json_name("filename", self.path), "cluster-size": grain, "format": ""}
            return [value | ({"compressed": True} if self.header.flags & HostedFlag.PACKED else {})]
        folder = posixpath.dirname(self.path)
        found: list[dict[str, Any]] = []
        for line in self.descriptor.lines:
            name = preferred(line.name, self.descriptor.encoding)
            of_file = json_name("filename", posixpath.join(folder, name)) if name else {}
            found.append({"virtual-size": line.sectors * SECTOR, **of_file, "format": line.stated})
        return found

    def _text(self, value: bytes) -> str:
        """Return a value for people: what its bytes cannot say is escaped."""
        return printable(preferred(value, self.descriptor.encoding))


def _header_fields(header: HostedHeader) -> dict[str, object]:
    h = header
    return {
        "header version": h.version,
        "flags": f"{h.flags:#x} ({', '.join(_flag_names(h)) or 'none'})",
        "capacity": f"{size_with_bytes(h.capacity * SECTOR)}, {counted(h.capacity, 'sector', 'sectors')}",
        "grain size": size_with_bytes(h.grain_size * SECTOR),
        "grain table": f"{h.num_gtes_per_gt} entries",
        "descriptor place": f"{counted(h.descriptor_size, 'sector', 'sectors')} at sector {h.descriptor_offset}",
        "grain directory": "in the footer" if h.has_footer else f"at sector {h.gd_offset}",
        "redundant directory": f"at sector {h.rgd_offset}",
        "overhead": counted(h.overhead, "sector", "sectors"),
        "compression": "deflate" if h.flags & HostedFlag.PACKED else "none",
        "closed cleanly": "no" if h.unclean_shutdown else "yes",
    }


def _flag_names(header: HostedHeader) -> list[str]:
    return [(flag.name or "").lower().replace("_", " ") for flag in HostedFlag if header.flags & flag]
