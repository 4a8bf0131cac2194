"""VHD as one of the formats: recognized by its footer, at the end of the file or, of some, also at its start.

docs/formats.md, "Detection": a fixed image is to be known by its end before any look at the start of the file, which
is its guest's: `is_at_end`. What reads one is imported where it is needed: most files are in another format.
"""

from vdifs.formats.image_format import Front, Metadata

__all__ = ["VHD", "Vhd"]


class Vhd:
    """The format "vpc"."""

    name, title = "vpc", "VHD"
    suffixes = (".vhd", ".avhd", ".vud")
    unmarked = False
    no_mark = "it has no footer that begins with 'conectix'"

    def probe(self, front: Front) -> bool:
        """Tell whether a file has a footer at its end, or that of a dynamic or differencing image at its start."""
        from vdifs.formats.vhd.reading import bears_mark

        return bears_mark(front)

    def is_at_end(self, front: Front) -> bool:
        """Tell whether a file ends with the sound footer of a fixed image, whatever its guest has at its start."""
        from vdifs.formats.vhd.reading import is_fixed

        return is_fixed(front)

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:  # noqa: ARG002 - no VHD is marked corrupt
        """Return what footer and header say; see ImageFormat."""
        from vdifs.formats.vhd.metadata import VhdMetadata

        return VhdMetadata.read(self, front)


VHD = Vhd()
