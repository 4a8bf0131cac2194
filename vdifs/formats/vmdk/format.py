"""VMDK as one of the formats: a descriptor in a file of its own, or in the sparse file that is its one extent.

See docs/formats.md, VMDK, and Detection. What reads one is imported where it is needed: most files are in another
format.
"""

import re

from vdifs.formats.image_format import Front, Metadata

__all__ = ["VMDK", "Vmdk", "is_called_part"]

_PART = re.compile(r"-(?:flat|delta|sesparse|ctk|[fs][0-9]{3,})\.vmdk\Z", re.IGNORECASE)


def is_called_part(name: str) -> bool:
    """Tell whether a file is called as parts of images are, a raw disk among them, which may begin with anything."""
    return name.lower().endswith(".vmdk") and _PART.search(name) is not None


class Vmdk:
    """The format "vmdk"."""

    name, title = "vmdk", "VMDK"
    suffixes = (".vmdk",)
    unmarked = False
    no_mark = "it is no VMDK descriptor, nor a sparse file with one inside"

    def probe(self, front: Front) -> bool:
        """Tell whether a file is an image, and no part of one; see ImageFormat."""
        from vdifs.formats.vmdk.marks import is_image

        return not is_called_part(front.file.path) and is_image(front)

    def is_part(self, front: Front, name: str) -> bool:
        """Tell whether a file that is called so is a part of a VMDK, and no image, whatever a guest wrote into it."""
        from vdifs.formats.vmdk.marks import is_extent

        return is_called_part(name) or is_extent(front)

    def read(self, front: Front, *, corrupt_too: bool = False) -> Metadata:  # noqa: ARG002 - nothing marks it so
        """Return what descriptor and header say; see ImageFormat."""
        from vdifs.formats.vmdk.metadata import VmdkMetadata

        return VmdkMetadata.read(self, front)


VMDK = Vmdk()
