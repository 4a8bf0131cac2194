"""What the descriptor of a VMDK says, and what opens, describes and checks the image. docs/formats.md, VMDK."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from vdifs.errors import CUT_SHORT, FormatError, UnsupportedError
from vdifs.formats.image_format import Description, Front, ImageFormat, Metadata, Parent
from vdifs.formats.problems import FileAudit
from vdifs.formats.vmdk.descriptor import (
    DESCRIPTOR_MAX_BYTES,
    MAX_SECTORS,
    Descriptor,
    has_create_type,
    is_descriptor,
)
from vdifs.formats.vmdk.hosted_header import HostedHeader
from vdifs.formats.vmdk.marks import embedded_descriptor
from vdifs.formats.vmdk.names import parent_names, preferred, spellings
from vdifs.formats.vmdk.sparse_headers import COWD_MAGIC, HOSTED_MAGIC, SESPARSE_MAGIC
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer

__all__ = ["VmdkMetadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmdkMetadata(Metadata):
    """What the descriptor says, and the header of the sparse file that it lies in.

    header: None for a descriptor in a file of its own. spelled: see `data_names`.
    """

    descriptor: Descriptor
    header: HostedHeader | None = None
    spelled: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def read(cls, image_format: ImageFormat, front: Front) -> "VmdkMetadata":
        """Return what descriptor and header say; see ImageFormat."""
        try:
            return cls._read(image_format, front)
        except FormatError as error:
            raise error.at(front.file.name) from error

    @classmethod
    def _read(cls, image_format: ImageFormat, front: Front) -> "VmdkMetadata":
        header = None
        if front.head.startswith(HOSTED_MAGIC):
            header = HostedHeader.parse(front.head)
            text = embedded_descriptor(front)
            if text is None:
                raise FormatError("its descriptor lies beyond the end of the file", remedy=CUT_SHORT)
            if not has_create_type(text):
                raise FormatError(_EXTENT, remedy=_NAME_DESCRIPTOR)
            if header.capacity > MAX_SECTORS:
                raise FormatError(f"its header has a capacity of {header.capacity} sectors")
        elif front.head.startswith((COWD_MAGIC, SESPARSE_MAGIC)):
            raise FormatError(_EXTENT, remedy=_NAME_DESCRIPTOR)
        elif is_descriptor(front.head) and front.file.size <= DESCRIPTOR_MAX_BYTES:
            text = front.file.read_at(0, front.file.size)
        else:
            raise FormatError(image_format.no_mark)
        return cls._said(image_format, Descriptor.parse(text, embedded=header is not None), header)

    @classmethod
    def _said(cls, image_format: ImageFormat, descriptor: Descriptor, header: HostedHeader | None) -> "VmdkMetadata":
        parent = None
        if descriptor.has_parent:
            said = preferred(descriptor.hint, descriptor.encoding)
            names = parent_names(descriptor.hint, descriptor.encoding)
            parent = Parent(names, frozenset({descriptor.parent_cid or ""}), said, image_format.name)
            if not names:
                raise FormatError("the name of its parent (parentFileNameHint) is that of no file")
        named = _names_of(descriptor)
        if len(named) > _MOST_FILES:
            what = f"its extents lie in {len(named)} files: more than {_MOST_FILES} are not opened for one image"
            raise UnsupportedError(what, remedy="convert it with VMware to a disk of fewer files")
        sectors = descriptor.sectors if header is None else header.capacity
        return cls(
            image_format,
            sectors * SECTOR,
            data_files=tuple(preferred(name, descriptor.encoding) for name in named),
            parent=parent,
            identities=frozenset() if descriptor.cid is None else frozenset({descriptor.cid}),
            descriptor=descriptor,
            header=header,
            spelled=tuple(spellings(name, descriptor.encoding) for name in named),
        )

    def data_names(self) -> Sequence[tuple[str, ...]]:
        """See Metadata."""
        return self.spelled

    def layer(self, file: HostFile, data: Sequence[HostFile], _snapshot: str | None) -> "Layer":
        """See Metadata."""
        from vdifs.formats.vmdk.extents import hosted_tables, placed_parts
        from vdifs.formats.vmdk.layer import Placed, VmdkLayer
        from vdifs.formats.vmdk.sparse_extent import SparseExtent

        has_backing = self.descriptor.has_parent
        if self.header is not None:
            tables = hosted_tables(file, self.header)
            placed = [Placed(0, SparseExtent(file, tables))]
            return VmdkLayer(file, [file], placed, tables, has_backing=has_backing)
        lines = self.descriptor.lines
        placed = placed_parts(lines, _files_of(self.descriptor), data)
        claims = sha256(repr(lines).encode()).digest()  # which is kept where the layer is known by its identity
        return VmdkLayer(file, data, placed, claims, has_backing=has_backing, lines=len(lines))

    def describe(self, file: HostFile, snapshot: str | None) -> Description:
        """See Metadata."""
        from vdifs.formats.vmdk.describe import VmdkDescription

        label = None if snapshot is None else self.label_of(file, snapshot)
        return VmdkDescription(self.virtual_size, label, path=file.path, descriptor=self.descriptor, header=self.header)

    def audit(self, file: HostFile, path: str, *, has_overlay: bool) -> FileAudit:  # noqa: ARG002 - as of any format
        """See Metadata."""
        from vdifs.formats.vmdk.audit import VmdkAudit

        return VmdkAudit()


_MOST_FILES = 8192
"""Each takes a descriptor, and some KiB of memory. VMware's largest disk in files of 2 GB has half as many."""
_EXTENT = "it is an extent of a VMDK, and no image of its own"
_NAME_DESCRIPTOR = "name the descriptor, the small text file beside it"


def _names_of(descriptor: Descriptor) -> tuple[bytes, ...]:
    """Return the names of the files of all extents, each once."""
    return tuple(dict.fromkeys(line.name for line in descriptor.lines if line.name))


def _files_of(descriptor: Descriptor) -> list[int]:
    """Return for each line the index of its file among those names, 0 where it has none."""
    index = {name: at for at, name in enumerate(_names_of(descriptor))}
    return [index.get(line.name, 0) for line in descriptor.lines]
