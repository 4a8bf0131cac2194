"""VHDX as one of the formats (docs/formats.md, VHDX): recognized by its first eight bytes.

What reads one is imported where it is needed: most files are in another format.
"""

from vdifs.formats.image_format import Front, Metadata

__all__ = ["VHDX", "Vhdx"]

_MAGIC = b"vhdxfile"


class Vhdx:
    """The format "vhdx"."""

    name, title = "vhdx", "VHDX"
    suffixes = (".vhdx", ".avhdx")
    unmarked = False
    no_mark = "its first bytes are not 'vhdxfile'"

    def probe(self, front: Front) -> bool:
        """Tell whether a file starts with the file identifier; see ImageFormat."""
        return front.head.startswith(_MAGIC)

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:  # noqa: ARG002 - nothing marks it corrupt
        """Return what the file says; see ImageFormat, and read_structures for what it refuses."""
        from vdifs.formats.vhdx.metadata import VhdxMetadata

        return VhdxMetadata.read(self, front)


VHDX = Vhdx()
