"""A format of ten lines: a mark, zeros up to 4 KiB, then the disk. Nothing but the registry needs to know it."""

from collections.abc import Sequence
from pathlib import Path

from vdifs.formats.flat_layer import FlatLayer
from vdifs.formats.image_format import Front, Metadata
from vdifs.formats.registry import FORMATS
from vdifs.storage.host_file import HostFile

MARK, START = b"boxed: 1", 4096


class BoxedMetadata(Metadata):
    def layer(self, file: HostFile, data: Sequence[HostFile], snapshot: str | None) -> FlatLayer:
        return FlatLayer(file, START, self.virtual_size)


class Boxed:
    name, title, suffixes, unmarked, no_mark = "boxed", "boxed", (".boxed",), False, "it does not begin with 'boxed: 1'"

    def probe(self, front: Front) -> bool:
        return front.head.startswith(MARK)

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:
        return BoxedMetadata(self, front.file.size - START)


BOXED = Boxed()


def register() -> None:
    """Have the format read in this process."""
    FORMATS[BOXED.name] = BOXED


def write(path: Path, disk: bytes) -> None:
    """Write an image of `disk`, the zeros of which are holes."""
    with path.open("wb") as file:
        file.write(MARK)
        for at in range(0, len(disk), START):
            if any(block := disk[at : at + START]):
                file.seek(START + at)
                file.write(block)
        file.truncate(START + len(disk))
