"""What a VHDX tells of itself besides its disk, in words and as JSON. Pure."""

from dataclasses import dataclass
from typing import Any

from vdifs.formats.image_format import Description
from vdifs.formats.vhdx.audit import warnings_of
from vdifs.formats.vhdx.items import Known
from vdifs.formats.vhdx.structures import Structures
from vdifs.wording import counted, size_with_bytes

__all__ = ["VhdxDescription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdxDescription(Description):
    """What a VHDX tells of itself."""

    structures: Structures

    def warnings(self) -> list[str]:
        """See Description."""
        return warnings_of(self.structures)

    def fields(self, full_backing_name: str | None) -> dict[str, object]:  # noqa: ARG002 - it has none by name alone
        """See Description."""
        s, h, p = self.structures, self.structures.headers.current, self.structures.parameters
        log = f"{size_with_bytes(h.log_length)} at {h.log_offset:#x}"
        done = f"{counted(s.applied, 'entry', 'entries')} replayed in memory" if h.has_log else "nothing to replay"
        fields: dict[str, object] = {
            "kind": "differencing" if p.locator is not None else "fixed" if p.fixed else "dynamic",
            "creator": s.creator or "not stated",
            "version": h.version,
            "sequence number": h.sequence,
            "file write GUID": h.file_write_guid,
            "data write GUID": h.data_write_guid,
            "log": f"{log}, {done}" if h.log_length else "none",
            "block size": size_with_bytes(p.block_size),
            "logical sector size": p.logical_sector_size,
            "physical sector size": p.physical_sector_size,
            "disk GUID": p.disk_guid,
            "BAT": f"{counted(s.geometry.entries, 'entry', 'entries')} at {s.regions.bat.offset:#x}",
            "metadata": f"{counted(len(s.items), 'item', 'items')} at {s.regions.metadata.offset:#x}",
        }
        if p.locator is not None:
            fields |= {f"parent {key}": value for key, value in p.locator.values.items()}
        return fields

    def as_qemu(self) -> dict[str, Any]:
        """See Description."""
        return {
            "cluster-size": self.structures.parameters.block_size,
            "dirty-flag": self.structures.headers.current.has_log,
            "format-specific": {"type": "vhdx", "data": self.all_fields()},
        }

    def all_fields(self) -> dict[str, Any]:
        """See Description."""
        s, h, p = self.structures, self.structures.headers.current, self.structures.parameters
        names = {each.value: each.name.lower().replace("_", " ") for each in Known}
        return {
            "creator": s.creator,
            "sequence_number": h.sequence,
            "file_write_guid": str(h.file_write_guid),
            "data_write_guid": str(h.data_write_guid),
            "log_guid": str(h.log_guid),
            "log_version": h.log_version,
            "version": h.version,
            "log_length": h.log_length,
            "log_offset": h.log_offset,
            "log_entries_replayed": s.applied,
            "regions": [
                {"name": place.name, "offset": place.offset, "length": place.end - place.offset}
                for place in s.regions.places
            ],
            "metadata_items": [
                {
                    "guid": str(item.guid),
                    "meaning": names.get(item.guid, "unknown") if not item.user else "unknown",
                    "user": item.user,
                    "offset": item.offset,
                    "length": item.length,
                }
                for item in s.items
            ],
            "block_size": p.block_size,
            "leave_blocks_allocated": p.fixed,
            "has_parent": p.locator is not None,
            "virtual_disk_size": p.disk_size,
            "logical_sector_size": p.logical_sector_size,
            "physical_sector_size": p.physical_sector_size,
            "virtual_disk_id": str(p.disk_guid),
            "parent_locator": None if p.locator is None else p.locator.values,
        }
