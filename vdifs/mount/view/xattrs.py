"""The extended attributes of synthetic files (docs/specification.md 2.10)."""

import os

from vdifs.mount.view.nodes import ImageFile
from vdifs.output.image import Image

__all__ = ["xattr_names", "xattr_value"]

_PREFIX = b"user.vdifs."
_ALWAYS = (b"source", b"virtual_size", b"allocated", b"depth", b"etag")


def xattr_names(file: ImageFile) -> list[bytes]:
    """Return the names of a file's attributes. Opens nothing."""
    names = [*_ALWAYS, *([b"packed"] if file.view == "qcow2" else []), *([b"base"] if file.base is not None else [])]
    return [_PREFIX + name for name in names]


def xattr_value(file: ImageFile, image: Image, name: bytes) -> bytes:
    """Return the value of the attribute `name`, one of `xattr_names`."""
    match name.removeprefix(_PREFIX):
        case b"source":
            return os.fsencode(file.path)
        case b"base":
            return os.fsencode(file.base or "")
        case b"virtual_size":
            return b"%d" % image.virtual_size
        case b"allocated":
            return b"%d" % image.allocated
        case b"packed":
            return b"%d" % image.packed
        case b"depth":
            return b"%d" % image.depth
        case b"etag":
            return image.etag.encode()
        case _:
            raise KeyError(name)
