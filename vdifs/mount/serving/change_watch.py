"""Noticing that the sources of open images change, also while readers find all they want in the page cache.

removed, renamed over    goes on: the files of the chain are held open
changed in place         every reader gets ESTALE from then on, and the kernel forgets the pages it kept
"""

from collections.abc import Callable
from typing import Protocol

import trio

from vdifs.errors import SourceChangedError, VdifsError
from vdifs.mount.serving.handles import Handles
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.scheduling.tasks import Tasks

__all__ = ["ChangeWatch", "PageCache"]

WATCH_S = 0.4


class PageCache(Protocol):
    """The pages that the kernel keeps of the mount's files."""

    async def drop(self, inode: int) -> bool:
        """Drop all pages of an inode; return whether the kernel keeps none of those that it had."""


class ChangeWatch:
    """Watches the images in use, by a task that runs only while there are such.

    live: whether a virtual machine may write them. on_change: called with what was found, and whether a program has the
    image open.
    """

    def __init__(
        self,
        images: OpenImages,
        handles: Handles,
        pages: PageCache,
        tasks: Tasks,
        on_change: Callable[[SourceChangedError, bool], None],
        *,
        live: bool = False,
    ) -> None:
        self._images = images
        self._handles = handles
        self._pages = pages
        self._tasks = tasks
        self._on_change = on_change
        self._live = live
        self._running = False
        self._checking: set[OpenImage] = set()

    def start(self) -> None:
        """Watch from now on, until no image is in use any more."""
        if not self._running:
            self._tasks.spawn(self._watch)

    async def check(self, opened: OpenImage) -> None:
        """Raise SourceChangedError, and see to what follows from it, if the sources of an open image have changed."""
        if opened.stale is not None:
            raise opened.stale.bare()
        try:
            if opened.on_local_disk:
                opened.image.check_unchanged()
            else:
                await self._images.read(opened, opened.image.check_unchanged)
        except SourceChangedError as error:
            self.note_change(opened, error)
            raise

    async def check_no_writer(self, opened: OpenImage) -> None:
        """Raise InUseError if a virtual machine has begun to write an image that is kept open."""
        if self._live:
            return
        if opened.on_local_disk:
            opened.image.chain.check_no_writer()
        else:
            await self._images.read(opened, opened.image.chain.check_no_writer)

    def note_change(self, opened: OpenImage, error: SourceChangedError) -> None:
        """Take note that the sources of an open image have changed: it is handed out no more."""
        if opened.stale is not None:
            return
        opened.stale = error
        self._images.discard(opened)
        is_open = self._handles.hold(opened)
        self._on_change(error, is_open)
        if is_open:
            self._tasks.spawn(self._pages.drop, opened.inode)

    async def _watch(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while present := [opened for opened in self._images.in_use() if opened.stale is None]:
                for opened in present:
                    if opened not in self._checking:
                        self._tasks.spawn(self._watch_one, opened)
                await trio.sleep(WATCH_S)
        finally:
            self._running = False

    async def _watch_one(self, opened: OpenImage) -> None:
        self._checking.add(opened)
        try:
            await self.check(opened)
        except (VdifsError, OSError):
            pass  # one that changed was seen to; one that hangs or fails tells its readers by itself
        finally:
            self._checking.discard(opened)
