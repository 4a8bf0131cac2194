"""Raw images: the disk itself, without a mark that would tell it from any other file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdifs.formats.image_format import Front, Metadata
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR, round_up

if TYPE_CHECKING:
    from vdifs.formats.layer import Layer

__all__ = ["RAW", "Raw"]


@dataclass(frozen=True, slots=True)
class _RawMetadata(Metadata):
    """Of a raw image, which is as large as its file, in whole sectors."""

    def layer(self, file: HostFile, _data: Sequence[HostFile], _snapshot: str | None) -> "Layer":
        from vdifs.formats.flat_layer import FlatLayer  # and with it numpy, which `vdifs info` does without

        return FlatLayer(file)


class Raw:
    """The format "raw"."""

    name = title = "raw"
    suffixes = (".raw", ".img")
    unmarked = True
    no_mark = ""

    def probe(self, _front: Front) -> bool:
        """Return False; see ImageFormat."""
        return False

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:  # noqa: ARG002 - nothing marks it
        """Return its size; see ImageFormat."""
        return _RawMetadata(self, round_up(front.file.size, SECTOR))


RAW = Raw()
