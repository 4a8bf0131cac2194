"""A format whose images know one another by identity: a line of JSON, zeros up to 4 KiB, then the disk.

Where the file has holes an image with a parent holds nothing. Nothing but the registry needs to know it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdifs.errors import FormatError
from vdifs.extents import Extents, Kind
from vdifs.formats.flat_layer import FlatLayer
from vdifs.formats.image_format import Front, Metadata, Parent
from vdifs.formats.layer import Layer, without_holes
from vdifs.formats.registry import FORMATS
from vdifs.storage.host_file import HostFile

MARK, START = b'{"linked": ', 4096


class LinkedLayer(FlatLayer):
    """What is a hole is the parent's."""

    has_backing = True

    def extents(self, start: int, end: int) -> Extents:
        whole = Extents.uniform(start, end, Kind.DATA, 0, START + start)
        return without_holes(whole, self._data, Kind.UNALLOCATED)

    details = extents


@dataclass(frozen=True, slots=True)
class LinkedMetadata(Metadata):
    def layer(self, file: HostFile, data: Sequence[HostFile], snapshot: str | None) -> Layer:
        return (FlatLayer if self.parent is None else LinkedLayer)(file, START, self.virtual_size)


class Linked:
    name, title, suffixes, unmarked, no_mark = (
        "linked",
        "linked",
        (".linked",),
        False,
        "it does not begin with '{\"linked\": '",
    )

    def probe(self, front: Front) -> bool:
        return front.head.startswith(MARK)

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:
        try:
            said = json.loads(front.head[:START].rstrip(b"\0"))
            named = said["parent"]
            parent = None
            if named is not None:
                names, identities = tuple(named["names"]), frozenset(named["identities"])
                parent = Parent(names, identities, named["said"], named["format"])
            own = frozenset([said["linked"]])
        except (ValueError, KeyError) as error:
            raise FormatError("its line is damaged", where=front.file.name) from error
        return LinkedMetadata(self, front.file.size - START, parent=parent, identities=own)


LINKED = Linked()


def register() -> None:
    """Have the format read in this process."""
    FORMATS[LINKED.name] = LINKED


def write(path: Path, disk: bytes, identity: str, **parent: Any) -> None:
    """Write an image of `disk`, the zeros of which are holes. parent: names, and what is not as usual of the rest."""
    named = {"said": "?", "format": "linked", "identities": []} | parent if parent else None
    with path.open("wb") as file:
        file.write(json.dumps({"linked": identity, "parent": named}).encode())
        for at in range(0, len(disk), START):
            if any(block := disk[at : at + START]):
                file.seek(START + at)
                file.write(block)
        file.truncate(START + len(disk))
