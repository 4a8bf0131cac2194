"""What a search passes by that may lead to an image: links, which are not followed, and files that are not regular.

Nothing that a link points at is looked at: it may hang, or lie where nothing may be opened. Its name has to tell.
"""

import os
import posixpath
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["IMAGE_SUFFIXES", "Passed", "Skipped", "is_called_image", "may_be_image"]

IMAGE_SUFFIXES = (".qcow2", ".qcow", ".qed", ".raw", ".img", ".vmdk", ".vhd", ".vhdx", ".vpc", ".vdi", ".hdd")
"""What images are called: not all of these formats are read."""
_OTHER_SUFFIXES = frozenset(
    "asc bash bz2 c cfg conf crt csv css db deb doc docx efi fd gif gz h html ini iso jpeg jpg js json key lock log md "
    "md5 nvram odt old pdf pem pid pl png py rpm rst service sh sha1 sha256 sha512 sig so sock sql sqlite svg swp tar "
    "tgz toml txt xml xz yaml yml zip zst".split()
)
"""Files are called so that are no images, and folders hardly ever."""
_MOST_READ = 10_000
_MOST_KEPT = 1_000


class Skipped(NamedTuple):
    """Something passed by. target: of a link, as it stands there; None for what is no link."""

    path: str
    target: str | None
    is_folder: bool = False


def is_called_image(name: str) -> bool:
    """Tell whether a file of that name, or path, claims to be an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def may_be_image(name: str) -> bool:
    """Tell whether a file of that name, or path, may be an image, or a folder of such, as far as the name tells."""
    last = posixpath.basename(name.rstrip("/"))
    return last.lower().rpartition(".")[2] not in _OTHER_SUFFIXES or "." not in last.lstrip(".")


@dataclass(slots=True)
class Passed:
    """Collects what a walk passes by. more: how many were left unread, or not kept, as there are so many."""

    root: str
    kept: list[Skipped] = field(default_factory=list)
    more: int = 0
    _read: int = 0

    def note(self, path: str, *, is_link: bool, is_folder: bool) -> None:
        """Take note of a link, of a folder, or of something that is no regular file; `path` is relative to the root."""
        if not is_link:
            if is_folder or is_called_image(path):
                self._keep(Skipped(path, None, is_folder))
            return
        if self._read == _MOST_READ:
            self.more += 1
            return
        self._read += 1
        try:
            target = os.readlink(os.path.join(self.root, path))
        except OSError:
            return  # gone, or another thing meanwhile
        if is_called_image(path) or may_be_image(target):
            self._keep(Skipped(path, target))

    def _keep(self, skipped: Skipped) -> None:
        if len(self.kept) < _MOST_KEPT:
            self.kept.append(skipped)
        else:
            self.more += 1
