"""What the name of a file tells: whether it claims to be an image, and whether it may be one.

Asked of links, which are not followed, of special files, and of files that turn out to be no images.
"""

import posixpath

__all__ = ["is_called_image", "may_be_image"]

_IMAGE_SUFFIXES = (".qcow2", ".qcow", ".qed", ".raw", ".img", ".vmdk", ".vhd", ".vhdx", ".vpc", ".vdi", ".hdd")
"""What images are called: not all of these formats are read."""
_OTHER_SUFFIXES = frozenset(
    "asc bash bz2 c cfg conf crt csv css db deb doc docx efi fd gif gz h html ini iso jpeg jpg js json key lock log md "
    "md5 nvram odt old pdf pem pid pl png py rpm rst service sh sha1 sha256 sha512 sig so sock sql sqlite svg swp tar "
    "tgz toml txt xml xz yaml yml zip zst".split()
)
"""Files are called so that are no images, and folders hardly ever."""


def is_called_image(name: str) -> bool:
    """Tell whether a file of that name, or path, claims to be an image."""
    return name.lower().endswith(_IMAGE_SUFFIXES)


def may_be_image(name: str) -> bool:
    """Tell whether a file of that name, or path, may be an image, or a folder of such, as far as the name tells."""
    last = posixpath.basename(name.rstrip("/"))
    return last.lower().rpartition(".")[2] not in _OTHER_SUFFIXES or "." not in last.lstrip(".")
