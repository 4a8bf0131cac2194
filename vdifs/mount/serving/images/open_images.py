"""The images that are open: each opened once however many ask, kept while used, and some for a moment after.

acquire --- not open ---> one task opens it in a thread; all who ask meanwhile wait for that
   |
   `------- open -------> OpenImage, with one user more      release: one user less; idle ones closed, oldest first

An image that is open keeps the space of its files, deleted ones too, and their file system busy. So one that is idle
is closed after IDLE_S, by a task that runs only while there are such, and at once when it is of no use any more.
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from vdifs.errors import VdifsError
from vdifs.mount.serving.images.memory_budget import check_budget, exceeds_budget
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import DeadlineError, Threads
from vdifs.mount.serving.scheduling.turns import Work
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source
from vdifs.output.image import Image

__all__ = ["OpenImages", "Opener"]

MAX_IDLE_IMAGES = 16
MAX_IDLE_FILES = 256
IDLE_S = 1.5
"""For so long an image stays open after its last use: a program that asks for a file's size opens it, as a rule."""

T = TypeVar("T")
Opener = Callable[[ImageFile, Source], Image]
"""Opens an image in the state that a Source describes. Raises SourceChangedError if that has passed. Blocks."""


@dataclass(slots=True)
class _Opening:
    """An image that is being opened. begun: by the task that does it. result: once `done` is set."""

    work: Work
    begun: bool = False
    done: trio.Event = field(default_factory=trio.Event)
    result: OpenImage | Exception | None = None


class OpenImages:
    """All open images of a mount, by inode number."""

    def __init__(self, opener: Opener, tasks: Tasks, threads: Threads) -> None:
        self.opener = opener
        self._tasks = tasks
        self._threads = threads
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._idle_files = min(MAX_IDLE_FILES, limit // 4)  # the others are for images in use
        self._by_inode: dict[int, OpenImage] = {}  # the idle ones in the order in which they became idle
        self._by_file: dict[ImageFile, OpenImage] = {}  # the last opened of each
        self._opening: dict[int, _Opening] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._by_inode)

    def get(self, inode: int) -> OpenImage | None:
        """Return the image with that number if it is open."""
        return self._by_inode.get(inode)

    def of(self, file: ImageFile) -> OpenImage | None:
        """Return the image that was opened last for `file`, if it is open."""
        return self._by_file.get(file)

    def in_use(self) -> list[OpenImage]:
        """Return the images in use."""
        return [opened for opened in self._by_inode.values() if opened.users]

    async def acquire(self, inode: int, file: ImageFile, source: Source) -> OpenImage:
        """Return the open image with one user more. Raises what the opener does, and DeadlineError."""
        while True:
            opened = self._by_inode.get(inode)
            if opened is not None and opened.devices != source.devices:
                self.discard(opened)  # the same file, mounted again: what is open may be cut off from its disk
                opened = None
            if opened is None:
                opening = self._opening.get(inode) or self._begin(inode, file, source)
                opened = await self._wait(opening, source)
                if opened.retired:  # by others opened meanwhile
                    self._forget(opening)
                    continue
            opened.take()
            opened.holders += 1
            return opened

    def release(self, opened: OpenImage) -> None:
        """Let go of an image. It stays open for a moment."""
        opened.drop()
        opened.holders -= 1
        if self._by_inode.get(opened.inode) is opened:
            self._by_inode[opened.inode] = self._by_inode.pop(opened.inode)
            self._close_later(opened)
        if opened.retired:
            self._close(opened)
        self._close_idle()

    def discard(self, opened: OpenImage) -> None:
        """Hand the image out no more; those who hold it keep it."""
        if self._by_inode.get(opened.inode) is opened:
            del self._by_inode[opened.inode]
        if opened.file is not None and self._by_file.get(opened.file) is opened:
            del self._by_file[opened.file]
        opened.retire()
        self._close(opened)

    def check_budget(self, opened: OpenImage) -> None:
        """Raise VdifsError, ENOMEM, if the tables of all images in use, with this one, are too large."""
        check_budget(opened, (each for each in self.in_use() if each is not opened))

    def close_useless(self, of_use: Callable[[OpenImage], bool]) -> None:
        """Close the idle images of which `of_use` is false."""
        for opened in [each for each in self._by_inode.values() if not each.users and not of_use(each)]:
            self.discard(opened)

    async def read(self, opened: OpenImage, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), which uses the image, run in a thread. Raises DeadlineError, naming the file."""
        try:
            return await self._threads.answer(opened.devices, _holding, opened, function, *args)
        except DeadlineError as error:
            raise (error if opened.file is None else error.at(str(opened.file))) from None

    async def _wait(self, opening: _Opening, source: Source) -> OpenImage:
        await self._threads.wait_for(opening.work, opening.done)
        match opening.result:
            case OpenImage() as opened:
                return opened
            case None:
                if not opening.begun:  # and never will: the next request begins anew
                    self._forget(opening)
                raise self._threads.late(source.devices)
            case error:
                raise error

    def _forget(self, opening: _Opening) -> None:
        self._opening = {inode: each for inode, each in self._opening.items() if each is not opening}

    def _begin(self, inode: int, file: ImageFile, source: Source) -> _Opening:
        opening = self._opening[inode] = _Opening(self._threads.work(source.devices, source.owner))
        self._tasks.spawn(self._open, inode, file, source, opening)  # goes on when the request is given up
        return opening

    async def _open(self, inode: int, file: ImageFile, source: Source, opening: _Opening) -> None:
        opening.begun = True

        def in_thread() -> OpenImage:
            image = self.opener(file, source)
            return OpenImage(inode, image, source.devices, source.owner, file, source.generation)

        try:
            opening.result = opened = self._by_inode[inode] = await self._threads.run_work(opening.work, in_thread)
            self._by_file[file] = opened
            self._close_later(opened)  # all who waited may have given up
        except VdifsError as error:
            opening.result = error.bare()  # its frames would hold it, in a circle, and all that the opening had read
        except Exception as error:  # noqa: BLE001 - raised again in each task that waits
            opening.result = error
        finally:
            self._opening.pop(inode, None)
            opening.done.set()
            self._close_idle()

    def _close_later(self, opened: OpenImage) -> None:
        """See to it that the image is closed if it stays idle."""
        opened.used_at = trio.current_time()
        if not self._closing:
            self._tasks.spawn(self._close_in_time)

    async def _close_in_time(self) -> None:
        if self._closing:
            return
        self._closing = True
        try:
            while idle := [opened for opened in self._by_inode.values() if not opened.holders]:
                await trio.sleep_until(min(opened.used_at for opened in idle) + IDLE_S)
                now = trio.current_time()
                for opened in idle:
                    if opened.users:  # by a request that came, or a thread that was left behind
                        opened.used_at = now
                    elif opened.used_at + IDLE_S <= now and not opened.retired:
                        self.discard(opened)
        finally:
            self._closing = False

    def _close_idle(self) -> None:
        idle = [opened for opened in self._by_inode.values() if not opened.users]
        files = sum(opened.image.depth for opened in idle)
        while len(idle) > MAX_IDLE_IMAGES or (
            len(idle) > 1 and (files > self._idle_files or exceeds_budget(self._by_inode.values(), idle))
        ):
            oldest = idle.pop(0)
            files -= oldest.image.depth
            self.discard(oldest)

    def _close(self, opened: OpenImage) -> None:
        """Close the image if it has no user: where close(2) may wait for a server, in a thread."""
        if opened.on_local_disk:
            opened.close_if_done()
        else:
            self._tasks.spawn(self._threads.run, opened.devices, opened.close_if_done)


def _holding(opened: OpenImage, function: Callable[..., T], *args: object) -> T:
    """Call `function` while the image cannot be closed, even if no request waits for the answer any more."""
    opened.take()
    try:
        return function(*args)
    finally:
        opened.drop()
        opened.close_if_done()
