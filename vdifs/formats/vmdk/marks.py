"""What tells an image from an extent: the descriptor that it is, or that lies in it. See docs/formats.md, Detection."""

from vdifs.formats.image_format import Front
from vdifs.formats.vmdk.descriptor import DESCRIPTOR_MAX_BYTES, has_create_type, is_descriptor
from vdifs.formats.vmdk.sparse_headers import COWD_MAGIC, HOSTED_MAGIC, SESPARSE_MAGIC
from vdifs.units import SECTOR

__all__ = ["embedded_descriptor", "is_extent", "is_image"]

_DESCRIPTOR_FIELDS = slice(28, 44)


def is_image(front: Front) -> bool:
    """Tell whether a file is a descriptor, or a sparse file with one inside, a damaged one too."""
    if front.head.startswith(HOSTED_MAGIC):
        text = embedded_descriptor(front)
        return text is None or has_create_type(text)  # of a damaged one it is said what is wrong
    return front.file.size <= DESCRIPTOR_MAX_BYTES and is_descriptor(front.head)


def is_extent(front: Front) -> bool:
    """Tell whether a file is a sparse extent, and no image of its own."""
    if front.head.startswith((COWD_MAGIC, SESPARSE_MAGIC)):
        return True
    return front.head.startswith(HOSTED_MAGIC) and not is_image(front)


def embedded_descriptor(front: Front) -> bytes | None:
    """Return the descriptor in a sparse file, empty where it has none, None if it is not in the file, or too long."""
    fields = front.head[_DESCRIPTOR_FIELDS]
    if len(fields) < 16:
        return None
    offset, length = (int.from_bytes(each, "little") * SECTOR for each in (fields[:8], fields[8:]))
    if not offset:
        return b""
    if length > DESCRIPTOR_MAX_BYTES or offset + length > front.file.size:
        return None
    return front.file.read_at(offset, length)
