"""What the header of a VDI says, and what opens and describes it. docs/formats.md, VDI.

A VDI knows its parent by UUID alone. Where it tells the UUID of the modification too, only that state of the parent is
it: an image that was written to since reads otherwise than the child was made for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from vdifs.errors import FormatError
from vdifs.formats.image_format import Description, Front, ImageFormat, Metadata, Parent
from vdifs.formats.problems import FileAudit
from vdifs.formats.vdi.describe import VdiDescription
from vdifs.formats.vdi.header import HEADER_LENGTH, NO_UUID, Header
from vdifs.storage.host_file import HostFile

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer

__all__ = ["VdiMetadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VdiMetadata(Metadata):
    """What the header of a VDI says. What reads the map is imported where it is needed: `vdifs info` reads none."""

    header: Header

    @classmethod
    def read(cls, image_format: ImageFormat, front: Front) -> "VdiMetadata":
        """Return what the header says; see ImageFormat."""
        if not image_format.probe(front):
            raise FormatError(image_format.no_mark, where=front.file.name)
        try:
            header = Header.parse(front.head[:HEADER_LENGTH], front.file.size)
        except FormatError as error:
            raise error.at(front.file.name) from error
        identities = {_identity(header.uuid), _identity(header.uuid, header.modification_uuid)}
        return cls(
            image_format,
            header.virtual_size,
            parent=_parent(header, image_format) if header.is_differencing else None,
            identities=frozenset(identities) if header.uuid != NO_UUID else frozenset(),
            header=header,
        )

    def layer(self, file: HostFile, _data: Sequence[HostFile], _snapshot: str | None) -> "Layer":
        """See Metadata."""
        from vdifs.formats.vdi.layer import VdiLayer

        return VdiLayer(file, self.header)

    def describe(self, file: HostFile, snapshot: str | None) -> Description:
        """See Metadata."""
        label = None if snapshot is None else self.label_of(file, snapshot)
        return VdiDescription(self.virtual_size, label, header=self.header)

    def audit(self, _file: HostFile, _path: str, *, has_overlay: bool) -> FileAudit:  # noqa: ARG002 - it changes nothing
        """See Metadata."""
        from vdifs.formats.vdi.audit import VdiAudit

        return VdiAudit()


def _parent(header: Header, image_format: ImageFormat) -> Parent:
    identity = _identity(header.parent_uuid, header.parent_modification_uuid)
    tells_state = header.parent_modification_uuid != NO_UUID
    return Parent((), frozenset({identity}), identity, image_format.name, tells_state)


def _identity(uuid: UUID, modification: UUID = NO_UUID) -> str:
    """Return what a child calls an image: by its UUID and, if it tells that, the UUID of its modification."""
    return str(uuid) if modification == NO_UUID else f"{uuid} (modification {modification})"
