"""Sizes of images that a program will ask for next, found before it asks.

A program that lists a folder asks for its files in the order in which it was told their names. To tell a size, an image
is opened, and handing that to a thread and back takes as long as opening a small image. So once a program has asked
for some in a row, the next ones are opened in one go, and closed at once.

    told      a  b  c  d  e  f  g  h  i  j
    asked     *  *  *
                       [- in one go -]

That ends with an image that takes much work, which is opened when the program asks for it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice

import trio

from vdifs.errors import VdifsError
from vdifs.mount.serving.images.open_images import Opener
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.attributes import FileSize
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source
from vdifs.pace import giving_way

__all__ = ["SizesAhead", "Wanted"]

_MOST_TOLD = 1024
_MOST_AHEAD = 16
_IN_A_ROW = 2
"""So many files a program asks for in a row before those that follow are looked into."""
_NONE = -2
"""No place, nor the one before the first."""
_LIGHT_S = 0.02
"""What is done in one go takes no longer than that, of processor time."""
_PATIENCE_S = 0.2
"""A request waits no longer for what is done ahead: a disk may hang."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image whose size is not known: the number that it has in the state of `source`."""

    inode: int
    file: ImageFile
    source: Source


class _HeavyError(BaseException):
    """An image takes more work than should be done ahead."""


class SizesAhead:
    """The order in which the kernel was told of image files, and what is found out ahead of its requests."""

    def __init__(self, opener: Opener, tasks: Tasks, threads: Threads) -> None:
        self._opener = opener
        self._tasks = tasks
        self._threads = threads
        self._told: deque[tuple[int, ImageFile]] = deque()
        self._count = 0
        self._place: dict[int, int] = {}  # by inode: how many were told before it
        self._last = _NONE
        self._row = 0
        self._known_to = _NONE  # the last place that was looked into: the kernel asks no more about those before it
        self._under_way = frozenset[int]()
        self._done = trio.Event()

    def tell(self, inode: int, file: ImageFile) -> None:
        """Take note that the kernel was told of a file of a folder."""
        if len(self._told) == _MOST_TOLD:
            earliest, _ = self._told.popleft()
            if self._place[earliest] == self._count - _MOST_TOLD:
                del self._place[earliest]
        self._told.append((inode, file))
        self._place[inode] = self._count
        self._count += 1

    async def asked(self, inode: int) -> None:
        """Take note that a program asks for a file; return once no work ahead is about its size, or after a moment."""
        place = self._place.get(inode, _NONE)
        if place == _NONE or place != self._last:
            self._row = self._row + 1 if self._last < place <= max(self._last, self._known_to) + 1 else 0
            self._last = place
        if inode in self._under_way:
            with trio.move_on_after(_PATIENCE_S):
                await self._done.wait()

    def go_on(
        self,
        inode: int,
        wanted: Callable[[int, ImageFile], Wanted | None],
        note: Callable[[Wanted, FileSize], None],
    ) -> None:
        """Look into the files that were told of after `inode`, which was looked into just now, if they come next.

        wanted: what to open for a file, None where its size is known, or shall not be looked for. note: what is called
        with each size that was found.
        """
        if self._under_way or self._row < _IN_A_ROW:
            return
        found = [each for each in (wanted(*told) for told in self._after(inode)) if each is not None]
        files = [each for each in found if each.source.devices == found[0].source.devices]
        if files:
            self._known_to = self._place[files[-1].inode]
            self._under_way = frozenset(each.inode for each in files)
            self._done = trio.Event()
            self._tasks.spawn(self._look_into, files, note)

    def _after(self, inode: int) -> Iterator[tuple[int, ImageFile]]:
        place = self._place.get(inode)
        if place is None:
            return iter(())
        first = place + 1 - (self._count - len(self._told))
        return islice(self._told, first, first + min(_MOST_AHEAD, 1 << self._row))

    async def _look_into(self, files: Sequence[Wanted], note: Callable[[Wanted, FileSize], None]) -> None:
        try:
            sizes = await self._threads.run(files[0].source.devices, _sizes, self._opener, files)
            if not sizes:
                self._row = 0
            for each, size in sizes:
                note(each, size)
        finally:
            self._under_way = frozenset()
            self._done.set()


def _sizes(opener: Opener, files: Sequence[Wanted]) -> list[tuple[Wanted, FileSize]]:
    """Return the sizes of those files that can be opened, up to one that takes much work."""
    begun = time.thread_time()

    def check_light(heavy: bool) -> None:
        if heavy or time.thread_time() - begun > _LIGHT_S:
            raise _HeavyError

    found: list[tuple[Wanted, FileSize]] = []
    with giving_way(check_light), suppress(_HeavyError):
        for each in files:
            with suppress(VdifsError), closing(opener(each.file, each.source)) as image:  # who asks for it is told why
                found.append((each, FileSize.of(image)))
            check_light(False)
    return found
