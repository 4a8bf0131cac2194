"""The open files of a mount."""

import errno
import time
from dataclasses import dataclass, field
from itertools import count

from vdifs.errors import VdifsError
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.view.attributes import Attributes

__all__ = ["FrozenContents", "Handle", "Handles"]

MAX_HELD = 8 << 20
"""Bytes of files that are no images and are open, in all: each is kept as it was when it was opened."""


@dataclass(slots=True)
class Handle:
    """An open synthetic file. path: in the mount. position: where its last read ended.

    read_here: bytes that were answered by Python. served: reads and bytes that the data plane has answered."""

    path: str
    image: OpenImage
    attributes: Attributes
    opened: float = field(default_factory=time.time)
    position: int = 0
    read_here: int = 0
    served: tuple[int, int] = (0, 0)

    @property
    def bytes_read(self) -> int:
        """Bytes that were read through it."""
        return self.read_here + self.served[1]


@dataclass(frozen=True, slots=True)
class FrozenContents:
    """An open file that is no image: its contents are those of the moment when it was opened."""

    contents: bytes


class Handles:
    """Open files by the number that the kernel calls them."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, Handle | FrozenContents] = {}

    def add(self, handle: Handle | FrozenContents) -> int:
        """Return the number of a file that is open now. Raises VdifsError, ENOMEM, for too many that are no images."""
        if isinstance(handle, FrozenContents):
            others = [each for each in self._open.values() if isinstance(each, FrozenContents)]
            held = {id(each.contents): len(each.contents) for each in others}
            held[id(handle.contents)] = len(handle.contents)
            if len(held) > 1 and sum(held.values()) > MAX_HELD:
                what = "too many files of .vdifs are open at once"
                raise VdifsError(what, remedy="close some", errno=errno.ENOMEM)
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def __getitem__(self, number: int) -> Handle | FrozenContents:
        return self._open[number]

    def remove(self, number: int) -> Handle | FrozenContents:
        """Forget an open file, and return it."""
        return self._open.pop(number)

    def of_inode(self, inode: int) -> Handle | None:
        """Return a handle on the synthetic file with that number, None if it is not open."""
        return next((handle for handle in self.images() if handle.attributes.inode == inode), None)

    def hold(self, image: OpenImage) -> bool:
        """Return whether an open file is read from `image`."""
        return any(handle.image is image for handle in self.images())

    def numbered(self) -> list[tuple[int, Handle]]:
        """Return the open synthetic files with their numbers, oldest first."""
        return [(number, handle) for number, handle in self._open.items() if isinstance(handle, Handle)]

    def images(self) -> list[Handle]:
        """Return the open synthetic files, oldest first."""
        return [handle for handle in self._open.values() if isinstance(handle, Handle)]
