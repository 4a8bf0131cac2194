"""The inode numbers that the kernel was told of image files a moment ago, and of which state each was.

A number follows the time stamps of an image's files, ctime too, which chown and link(2) move as a write does. Of an
image that is open, the witness of its files tells these apart; of one that is not, nothing does. A program that has
asked for a file's number and opens the file now would find it replaced by another.

    asked        A     A     A                                     A: the number is asked for
    ctime moved     ^     ^                                        n, m: the number that is told
    told         n     n     n . . . KEPT_S . .|m                  at the latest after LONGEST_S: m

So where nothing but ctimes have moved, the old number is told on, for a moment. That says nothing of the bytes, which a
program can have written and set mtime back. What opens a file under a number that was kept must see to it that
nothing of the earlier state is served: neither its size nor the pages that the kernel keeps.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from vdifs.mount.view.nodes import ImageFile
from vdifs.storage.fingerprint import Fingerprint

__all__ = ["Fingerprints", "RecentInodes"]

KEPT_S = 2.0
"""So long after a number was asked for it may be told once more."""
LONG_S = 20.0
"""So long after a change was seen it is told to programs that ask all the time."""
LONGEST_S = 60.0
"""So long it is told to programs that leave no pause in which it can become another without their noticing."""
_PAUSE_S = 0.5
_MOST = 4096

Fingerprints = tuple[Fingerprint, ...]
"""The files of a chain."""


@dataclass(slots=True)
class _ToldNumber:
    """A number that stands for a state. asked: when it was last asked for. moved: when a later state was first seen."""

    number: int
    state: Fingerprints
    asked: float
    moved: float | None = None


class RecentInodes:
    """The numbers of the image files that were asked for last."""

    def __init__(self) -> None:
        self._told: OrderedDict[ImageFile, _ToldNumber] = OrderedDict()  # what was asked for last at its end

    def tell(self, file: ImageFile, number: int, state: Callable[[], Fingerprints]) -> None:
        """Take note that the kernel is told `number` of a file in that state, or in one whose ctimes alone differ."""
        told = self._told.pop(file, None)
        if told is None or told.number != number:
            told = _ToldNumber(number, state(), time.monotonic())
        else:
            told.asked = time.monotonic()
        self._told[file] = told
        if len(self._told) > _MOST:
            self._told.popitem(last=False)

    def kept(self, file: ImageFile, number: int, state: Callable[[], Fingerprints]) -> int:
        """Return the number to tell of a file that would have `number` in its present state."""
        told = self._told.get(file)
        if told is None:
            return number
        if told.number == number:
            told.moved = None
            return number
        now = time.monotonic()
        if told.moved is None:
            told.moved = now
        if not _is_over(now - told.asked, now - told.moved) and _is_alike(told.state, state()):
            return told.number
        self.forget(file)
        return number

    def is_kept(self, file: ImageFile) -> bool:
        """Tell whether the number that is told of a file is that of an earlier state."""
        told = self._told.get(file)
        return told is not None and told.moved is not None

    def forget(self, file: ImageFile) -> None:
        """Have the number of a file become that of its present state at once."""
        self._told.pop(file, None)


def _is_alike(one: Fingerprints, other: Fingerprints) -> bool:
    """Tell whether two states differ in ctimes alone."""
    return len(one) == len(other) and all(a[:-1] == b[:-1] for a, b in zip(one, other, strict=True))


def _is_over(unasked_s: float, moved_s: float) -> bool:
    return unasked_s > KEPT_S or moved_s > LONGEST_S or (moved_s > LONG_S and unasked_s > _PAUSE_S)
