"""The open files of a mount."""

import errno
import time
from dataclasses import dataclass, field
from itertools import count

from vdifs.errors import VdifsError
from vdifs.mount.serving.open_image import Slot
from vdifs.mount.view.attributes import Attributes

__all__ = ["Handle", "Handles", "Snapshot"]

MAX_HELD = 8 << 20
"""Bytes of files that are no images and are open, in all: each is kept as it was when it was opened."""


@dataclass(slots=True)
class Handle:
    """An open synthetic file. path: in the mount. position: where its last read ended."""

    path: str
    slot: Slot
    attributes: Attributes
    opened: float = field(default_factory=time.time)
    position: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An open status file: its contents when it was opened."""

    contents: bytes


class Handles:
    """Open files by the number that the kernel calls them."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, Handle | Snapshot] = {}

    def add(self, handle: Handle | Snapshot) -> int:
        """Return the number of a file that is open now. Raises VdifsError, ENOMEM, for too many that are no images."""
        if isinstance(handle, Snapshot):
            held = {id(each.contents): len(each.contents) for each in self._open.values() if isinstance(each, Snapshot)}
            held[id(handle.contents)] = len(handle.contents)
            if len(held) > 1 and sum(held.values()) > MAX_HELD:
                raise VdifsError("too many files of .vdifs are open at once: close some", errno=errno.ENOMEM)
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def __getitem__(self, number: int) -> Handle | Snapshot:
        return self._open[number]

    def remove(self, number: int) -> Handle | Snapshot:
        """Forget an open file, and return it."""
        return self._open.pop(number)

    def images(self) -> list[Handle]:
        """Return the open synthetic files, oldest first."""
        return [handle for handle in self._open.values() if isinstance(handle, Handle)]
