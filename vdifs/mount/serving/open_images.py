"""The images that are open: each opened once however many ask, kept while used, and some for a moment after.

acquire --- not open ---> one task opens it in a thread; all who ask meanwhile wait for that
   |
   `------- open -------> Slot, with one user more      release: one user less; idle slots are closed, oldest first

An image that is open keeps the space of its files, deleted ones too, and their file system busy. So one that is idle
is closed after IDLE_S, by a task that runs only while there are such, and at once when it is of no use any more.
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from vdifs.errors import VdifsError
from vdifs.mount.serving.memory import check_room, is_crowded
from vdifs.mount.serving.open_image import Slot
from vdifs.mount.serving.tasks import Tasks
from vdifs.mount.serving.threads import Threads
from vdifs.mount.serving.turns import Work
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source
from vdifs.output.image import Image

__all__ = ["OpenImages", "Opener"]

MAX_IDLE_IMAGES = 16
MAX_IDLE_FILES = 256
IDLE_S = 1.5
"""For so long an image stays open after its last use: who has asked for a file's size opens it, as a rule."""

T = TypeVar("T")
Opener = Callable[[ImageFile, Source], Image]
"""Opens an image in the state that a Source describes. Raises SourceChangedError if that has passed. Blocks."""


@dataclass(slots=True)
class _Opening:
    """An image that is being opened. begun: by the task that does it. result: once `done` is set."""

    work: Work
    begun: bool = False
    done: trio.Event = field(default_factory=trio.Event)
    result: Slot | Exception | None = None


class OpenImages:
    """All open images of a mount, by inode number."""

    def __init__(self, opener: Opener, tasks: Tasks, threads: Threads) -> None:
        self._opener = opener
        self._tasks = tasks
        self._threads = threads
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._idle_files = min(MAX_IDLE_FILES, limit // 4)  # the others are for images in use
        self._slots: dict[int, Slot] = {}  # the idle ones in the order in which they became idle
        self._by_file: dict[ImageFile, Slot] = {}  # the last opened of each
        self._opening: dict[int, _Opening] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, inode: int) -> Slot | None:
        """Return the image with that number if it is open."""
        return self._slots.get(inode)

    def of(self, file: ImageFile) -> Slot | None:
        """Return the image that was opened last for `file`, if it is open."""
        return self._by_file.get(file)

    def in_use(self) -> list[Slot]:
        """Return the images in use."""
        return [slot for slot in self._slots.values() if slot.users]

    async def acquire(self, inode: int, file: ImageFile, source: Source) -> Slot:
        """Return the open image with one user more. Raises what the opener does, and DeadlineError."""
        while True:
            slot = self._slots.get(inode)
            if slot is not None and slot.devices != source.devices:
                self.discard(slot)  # the same file, mounted again: what is open may be cut off from its disk
                slot = None
            if slot is None:
                opening = self._opening.get(inode) or self._begin(inode, file, source)
                slot = await self._wait(opening, source)
                if slot.retired:  # by others opened meanwhile
                    self._forget(opening)
                    continue
            slot.take()
            slot.holders += 1
            return slot

    def release(self, slot: Slot) -> None:
        """Let go of an image. It stays open for a moment."""
        slot.drop()
        slot.holders -= 1
        if self._slots.get(slot.inode) is slot:
            self._slots[slot.inode] = self._slots.pop(slot.inode)
            self._close_later(slot)
        if slot.retired:
            self._close(slot)
        self._close_idle()

    def discard(self, slot: Slot) -> None:
        """Hand the image out no more; those who hold it keep it."""
        if self._slots.get(slot.inode) is slot:
            del self._slots[slot.inode]
        if slot.file is not None and self._by_file.get(slot.file) is slot:
            del self._by_file[slot.file]
        slot.retire()
        self._close(slot)

    def check_room(self, slot: Slot) -> None:
        """Raise VdifsError, ENOMEM, if the tables of all images in use, with this one, are too large."""
        check_room(slot, (each for each in self.in_use() if each is not slot))

    def close_useless(self, of_use: Callable[[Slot], bool]) -> None:
        """Close the idle images of which `of_use` is false."""
        for slot in [slot for slot in self._slots.values() if not slot.users and not of_use(slot)]:
            self.discard(slot)

    async def read(self, slot: Slot, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), which uses the slot's image, run in a thread. Raises DeadlineError."""
        return await self._threads.answer(slot.devices, _holding, slot, function, *args)

    async def _wait(self, opening: _Opening, source: Source) -> Slot:
        await self._threads.wait_for(opening.work, opening.done)
        match opening.result:
            case Slot() as slot:
                return slot
            case None:
                if not opening.begun:  # and never will: the next who asks begins anew
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

        def in_thread() -> Slot:
            image = self._opener(file, source)
            return Slot(inode, image, source.devices, source.owner, file, source.generation)

        try:
            opening.result = slot = self._slots[inode] = await self._threads.run_work(opening.work, in_thread)
            self._by_file[file] = slot
            self._close_later(slot)  # all who waited may have given up
        except VdifsError as error:
            opening.result = error.bare()  # its frames would hold it, in a circle, and all that the opening had read
        except Exception as error:  # noqa: BLE001 - raised again in each task that waits
            opening.result = error
        finally:
            self._opening.pop(inode, None)
            opening.done.set()
            self._close_idle()

    def _close_later(self, slot: Slot) -> None:
        """See to it that the image is closed if it stays idle."""
        slot.used_at = trio.current_time()
        if not self._closing:
            self._tasks.spawn(self._close_in_time)

    async def _close_in_time(self) -> None:
        if self._closing:
            return
        self._closing = True
        try:
            while idle := [slot for slot in self._slots.values() if not slot.holders]:
                await trio.sleep_until(min(slot.used_at for slot in idle) + IDLE_S)
                now = trio.current_time()
                for slot in idle:
                    if slot.users:  # by who has it again, or a thread that was left behind
                        slot.used_at = now
                    elif slot.used_at + IDLE_S <= now and not slot.retired:
                        self.discard(slot)
        finally:
            self._closing = False

    def _close_idle(self) -> None:
        idle = [slot for slot in self._slots.values() if not slot.users]
        files = sum(slot.image.depth for slot in idle)
        while len(idle) > MAX_IDLE_IMAGES or (
            len(idle) > 1 and (files > self._idle_files or is_crowded(self._slots.values(), idle))
        ):
            oldest = idle.pop(0)
            files -= oldest.image.depth
            self.discard(oldest)

    def _close(self, slot: Slot) -> None:
        """Close the image if it has no user: where close(2) may wait for a server, in a thread."""
        if slot.prompt:
            slot.close_if_done()
        else:
            self._tasks.spawn(self._threads.run, slot.devices, slot.close_if_done)


def _holding(slot: Slot, function: Callable[..., T], *args: object) -> T:
    """Call `function` while the image cannot be closed, even if no request waits for the answer any more."""
    slot.take()
    try:
        return function(*args)
    finally:
        slot.drop()
        slot.close_if_done()
