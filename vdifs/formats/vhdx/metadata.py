"""What the structures of a VHDX say, and what opens, describes and checks it. docs/formats.md, VHDX."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from vdifs.formats.image_format import Description, Front, ImageFormat, Metadata, Parent
from vdifs.formats.problems import FileAudit
from vdifs.formats.vhdx.locator import ParentLocator, parent_names
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer
    from vdifs.formats.vhdx.structures import Structures  # and with it numpy, for who reads a VHDX

__all__ = ["VhdxMetadata"]

_SECTORS = " with sectors of "


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdxMetadata(Metadata):
    """What headers, region tables and metadata of a VHDX say, its log replayed."""

    structures: "Structures"

    @classmethod
    def read(cls, image_format: ImageFormat, front: Front) -> "VhdxMetadata":
        """Return what the file says; see ImageFormat, and read_structures for what it refuses."""
        from vdifs.formats.vhdx.structures import read_structures

        structures = read_structures(front)
        parameters = structures.parameters
        return cls(
            image_format,
            parameters.disk_size,
            parent=None
            if parameters.locator is None
            else _parent(image_format, parameters.locator, parameters.logical_sector_size),
            identities=frozenset(
                {_identity(structures.headers.current.data_write_guid, parameters.logical_sector_size)}
            ),
            structures=structures,
        )

    def layer(self, file: HostFile, _data: Sequence[HostFile], _snapshot: str | None) -> "Layer":
        """See Metadata."""
        from vdifs.formats.vhdx.layer import VhdxLayer
        from vdifs.formats.vhdx.structures import reopened

        regions = self.structures.regions
        return VhdxLayer(reopened(file, self.structures), regions.bat.offset, self.structures.geometry, regions.places)

    def describe(self, file: HostFile, snapshot: str | None) -> Description:
        """See Metadata."""
        from vdifs.formats.vhdx.describe import VhdxDescription

        label = None if snapshot is None else self.label_of(file, snapshot)
        return VhdxDescription(self.virtual_size, label, structures=self.structures)

    def audit(self, file: HostFile, path: str, *, has_overlay: bool) -> FileAudit:  # noqa: ARG002 - none is hidden
        """See Metadata."""
        from vdifs.formats.vhdx.audit import VhdxAudit

        return VhdxAudit.of(file.name, self.structures, path)


def _identity(data_write_guid: UUID, sector_size: int) -> str:
    """Return what a child and its parent agree on: a child has sectors as large as those of its parent."""
    return f"{data_write_guid}{'' if sector_size == SECTOR else f'{_SECTORS}{sector_size} bytes'}"


def _parent(image_format: ImageFormat, locator: ParentLocator, sector_size: int) -> Parent:
    identities = frozenset(_identity(each, sector_size) for each in locator.linkages)
    return Parent(parent_names(locator.values), identities, locator.said, image_format.name, near_miss=_near_miss)


def _near_miss(wanted: frozenset[str], found: frozenset[str]) -> str | None:
    """Return what keeps an image from being the parent that has its GUID; None if it has another."""
    usual = f"{SECTOR} bytes"
    sizes = {guid: size or usual for guid, _, size in (each.partition(_SECTORS) for each in wanted)}
    for guid, _, size in (each.partition(_SECTORS) for each in found):
        if guid in sizes:
            return f"its sectors have {size or usual}, those of the image above it {sizes[guid]}"
    return None
