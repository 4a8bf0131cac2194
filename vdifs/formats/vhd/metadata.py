"""What the footer and the header of a VHD say, and what opens, describes and checks it. docs/formats.md, VHD."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vdifs.errors import FormatError
from vdifs.formats.image_format import Description, Front, ImageFormat, Metadata, Parent
from vdifs.formats.problems import FileAudit
from vdifs.formats.vhd.describe import VhdDescription
from vdifs.formats.vhd.footer import RESTORE, DiskType, Footer
from vdifs.formats.vhd.header import Header
from vdifs.formats.vhd.parent_names import LocatorName, candidates, said_names
from vdifs.formats.vhd.reading import (
    PlacedFooter,
    find_footer,
    locator_names,
    read_header,
)
from vdifs.storage.host_file import HostFile

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer

__all__ = ["VhdMetadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdMetadata(Metadata):
    """What footer and header of a VHD say. What reads tables is imported where it is needed: `vdifs info` reads none.

    header: None for a fixed image. names: what the locators say.
    """

    placed: PlacedFooter
    header: Header | None
    names: tuple[LocatorName, ...]

    @classmethod
    def read(cls, image_format: ImageFormat, front: Front) -> "VhdMetadata":
        """Return what footer and header say; see ImageFormat."""
        placed = find_footer(front)
        footer = placed.footer
        header = None if footer.disk_type is DiskType.FIXED else read_header(front, placed)
        names, parent = tuple[LocatorName, ...](), None
        if header is not None and footer.disk_type is DiskType.DIFFERENCING:
            names = locator_names(front.file, header.locators)
            parent = _parent(image_format, front.file, footer, header, names)
        return cls(
            image_format,
            footer.virtual_size,
            hidden=footer.hidden_flag != 0,
            parent=parent,
            identities=frozenset({str(footer.uuid)}) if footer.uuid.int else frozenset(),
            placed=placed,
            header=header,
            names=names,
        )

    @property
    def footer(self) -> Footer:
        """The footer that counts."""
        return self.placed.footer

    def as_parent(self) -> "VhdMetadata":
        """See Metadata: a differencing image sees a disk of the current size, whatever the geometry says."""
        return replace(self, virtual_size=self.footer.size_below_child)

    @property
    def size_alone(self) -> int:
        """See Metadata."""
        return self.footer.virtual_size

    def layer(self, file: HostFile, _data: Sequence[HostFile], _snapshot: str | None) -> "Layer":
        """See Metadata."""
        if self.header is None:
            from vdifs.formats.flat_layer import FlatLayer

            return FlatLayer(file, 0, self.virtual_size)
        from vdifs.formats.vhd.blocks import FilePlaces
        from vdifs.formats.vhd.layer import VhdLayer

        places = FilePlaces(self.footer.header_offset, self.placed.end)
        has_backing = self.footer.disk_type is DiskType.DIFFERENCING
        return VhdLayer(file, self.header, places, self.virtual_size, has_backing=has_backing)

    def describe(self, file: HostFile, snapshot: str | None) -> Description:
        """See Metadata."""
        label = None if snapshot is None else self.label_of(file, snapshot)
        return VhdDescription(
            self.virtual_size, label, footer=self.footer, header=self.header, names=self.names, notes=self.placed.notes
        )

    def audit(self, file: HostFile, path: str, *, has_overlay: bool) -> FileAudit:
        """See Metadata."""
        from vdifs.formats.vhd.audit import VhdAudit

        return VhdAudit.of(file, self.placed, self.header, path, has_overlay=has_overlay)


def _parent(
    image_format: ImageFormat, file: HostFile, footer: Footer, header: Header, names: tuple[LocatorName, ...]
) -> Parent:
    """Return what a differencing image says of its parent. Raises FormatError if it says nothing that tells one."""
    paths = candidates(names, header.parent_name)
    said = next(iter(said_names(names, header.parent_name)), None)
    if header.parent_uuid.int:
        identity = str(header.parent_uuid)
        return Parent(paths, frozenset({identity}), identity if said is None else said, image_format.name)
    if not footer.is_tapdisk:
        what = "it is a differencing image, and the UUID of its parent is all zeros"
        raise FormatError(what, where=file.name, remedy=RESTORE)
    if not paths:
        what = "it is a differencing image on a raw one, and has no name for that which can be looked for"
        raise FormatError(what, where=file.name, remedy=RESTORE)
    return Parent(paths, frozenset(), said or paths[0], "raw")
