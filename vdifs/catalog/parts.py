"""Files that are called as raw images are, and only are parts of an image: the flat extents of a VMDK, say. Pure."""

from collections.abc import Mapping

from vdifs.catalog.entry import Entry
from vdifs.formats.image_format import HasParts
from vdifs.formats.registry import FORMATS

__all__ = ["without_parts"]


def without_parts(images: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the images that are no parts of others, by PATH.

    A file is a part of its own owner's images alone, and of root's: no user can make another one's image vanish.
    """
    parts = {
        each.path
        for entry in images.values()
        if entry.data and isinstance(FORMATS[entry.format], HasParts)
        for each in entry.data
        if entry.uid in (0, each.uid)
    }
    return {path: entry for path, entry in images.items() if path not in parts or not FORMATS[entry.format].unmarked}
