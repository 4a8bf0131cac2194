"""Open files: reading them, and what becomes of them when their sources change. Knows trio, not FUSE.

removed, renamed over    goes on: the files of the chain are held open
changed in place         every reader gets ESTALE from then on, and the kernel forgets the pages it kept
"""

import errno
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from vdifs.errors import SourceChangedError, VdifsError, WouldBlock, printable
from vdifs.mount.serving.handles import Handle, Handles, Snapshot
from vdifs.mount.serving.inspection import Inspection
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.open_image import Slot
from vdifs.mount.serving.open_images import OpenImages
from vdifs.mount.serving.sidecars import SidecarContents
from vdifs.mount.serving.status import Status, status_json
from vdifs.mount.serving.status_reports import Report
from vdifs.mount.serving.tasks import Tasks
from vdifs.mount.serving.threads import DeadlineError
from vdifs.mount.serving.xattrs import xattr_names, xattr_value
from vdifs.mount.view.attributes import Attributes
from vdifs.mount.view.confinement import Confinement
from vdifs.mount.view.moved import MovedError
from vdifs.mount.view.nodes import ImageFile, Node, Sidecar, StatusFile
from vdifs.mount.view.options import MountOptions

__all__ = ["Files"]

WATCH_S = 0.4
T = TypeVar("T")


class Pages(Protocol):
    """The pages that the kernel keeps of the mount's files."""

    async def drop(self, inode: int) -> bool:
        """Drop all pages of an inode; return whether the kernel keeps none of those that it had."""


class Files:
    """The open files of one mount. confinement: what is in force, inspection: what is under way, for its status."""

    def __init__(
        self,
        namespace: Namespace,
        images: OpenImages,
        tasks: Tasks,
        options: MountOptions,
        pages: Pages,
        sidecars: SidecarContents,
    ) -> None:
        self._namespace = namespace
        self._images = images
        self._options = options
        self._pages = pages
        self._sidecars = sidecars
        self._tasks = tasks
        self._handles = Handles()
        self._watched = False
        self._one_status = trio.CapacityLimiter(1)  # it takes memory while it is made
        self._checking: set[Slot] = set()
        self._started = time.time()
        self._report = Report(self._status)
        self.confinement = Confinement()
        self.inspection: Inspection | None = None
        self._counters = namespace.counters

    async def open(self, inode: int) -> tuple[int, bool]:
        """Open a file; return the number to read it by, and whether it may be cached."""
        self._counters.opens += 1
        if not isinstance(node := self._namespace.node(inode), ImageFile):
            return await self._open_contents(inode, node), False
        file, slot = await self._namespace.acquire(inode)
        try:
            self._images.check_room(slot)
            handle = await self._handle(inode, file, slot)
            self._watch()
            return self._handles.add(handle), True
        except BaseException:
            self._images.release(slot)
            raise

    async def read(self, number: int, offset: int, length: int) -> bytes | memoryview:
        """Return what an open file holds, fewer bytes only at its end. Raises SourceChangedError, VdifsError."""
        handle = self._handles[number]
        if isinstance(handle, Snapshot):
            return handle.contents[offset : offset + length]
        self._counters.reads += 1
        try:
            data = await self._read(handle.slot, offset, length)
        except VdifsError as error:
            self._counters.failed_reads += 1
            if isinstance(error, SourceChangedError):
                self._moved(handle.slot, error)
            raise
        handle.position = offset + len(data)
        handle.bytes_read += len(data)
        self._counters.bytes_read += len(data)
        return data

    def release(self, number: int) -> None:
        """Close an open file."""
        handle = self._handles.remove(number)
        if isinstance(handle, Handle):
            self._images.release(handle.slot)
        else:
            self._report.close(handle.contents)

    async def stat(self, inode: int) -> Attributes:
        """Return the attributes of a node; of an open file also when its sources were removed."""
        if isinstance(node := self._namespace.node(inode), StatusFile | Sidecar):
            attributes = await self._namespace.stat(inode)
            try:
                return attributes.with_size(await self._size(inode, node))
            except VdifsError:
                return attributes  # who opens it is told why
        try:
            return await self._namespace.stat(inode)
        except MovedError:
            handle = next((each for each in self._handles.images() if each.attributes.inode == inode), None)
            if handle is None:
                raise
            await self._check(handle.slot)
            return handle.attributes

    def xattr_names(self, inode: int) -> list[bytes]:
        """Return the names of a node's extended attributes."""
        node = self._namespace.node(inode)
        return xattr_names(node) if isinstance(node, ImageFile) else []

    async def xattr(self, inode: int, name: bytes) -> bytes:
        """Return an extended attribute. Raises VdifsError, ENODATA."""
        if name not in self.xattr_names(inode):
            raise VdifsError("no such extended attribute", errno=errno.ENODATA)
        file, slot = await self._namespace.acquire(inode)
        try:
            return xattr_value(file, slot.image, name)
        finally:
            self._images.release(slot)

    async def _handle(self, inode: int, file: ImageFile, slot: Slot) -> Handle:
        """Return a handle on an image in the state that its inode number stands for. Raises MovedError, InUseError."""
        try:
            await self._check(slot)
            await self._check_no_writer(slot)
        except SourceChangedError as error:
            raise MovedError(str(error)) from error
        await self._drop_earlier(inode, file, slot)
        attributes = self._namespace.peek(file)
        if attributes.inode != inode:
            raise MovedError(f"{printable(file.path)}: changed while it was opened")
        path = next(iter(self._namespace.tree.paths(file)), file.path)
        return Handle(path, slot, attributes)

    async def _drop_earlier(self, inode: int, file: ImageFile, slot: Slot) -> None:
        """See to it that the kernel serves no pages of another state than the one that is opened under this number.

        Where a number was kept through a change, it may have some. As long as a program has the other state open it
        may read more of them, and this one must have another number. Raises MovedError.
        """
        known, state = self._namespace.inodes.get(inode), self._namespace.numbers.state_of(file, slot)
        while (of := inode if known is None or known.pages_of is None else known.pages_of) != state:
            if known is None or self._is_open(inode) or not await self._pages.drop(inode):
                raise self._namespace.numbers.move(file, slot)
            if not self._is_open(inode) and of == (known.pages_of or inode):
                known.pages_of = None if state == inode else state  # until the handle is there nothing else happens

    def _is_open(self, inode: int) -> bool:
        return any(handle.attributes.inode == inode for handle in self._handles.images())

    async def _read(self, slot: Slot, offset: int, length: int) -> memoryview:
        if slot.stale is not None:
            raise slot.stale.bare()
        if slot.prompt:
            try:
                return slot.image.view_at(offset, length, wait=False)
            except WouldBlock:
                pass
        return await self._in_thread(slot, slot.image.view_at, offset, length)

    async def _in_thread(self, slot: Slot, function: Callable[..., T], *args: object) -> T:
        """Return function(*args), which uses the slot's image. Raises DeadlineError, naming the image."""
        try:
            return await self._images.read(slot, function, *args)
        except DeadlineError as error:
            known = self._namespace.inodes.get(slot.inode)
            raise (error if known is None else error.named(str(known.node))) from None

    async def _check(self, slot: Slot) -> None:
        """Raise SourceChangedError, and see to what follows from it, if the sources of an open image have changed."""
        if slot.stale is not None:
            raise slot.stale.bare()
        try:
            if slot.prompt:
                slot.image.check_unchanged()
            else:
                await self._in_thread(slot, slot.image.check_unchanged)
        except SourceChangedError as error:
            self._moved(slot, error)
            raise

    async def _check_no_writer(self, slot: Slot) -> None:
        """Raise InUseError if a virtual machine has begun to write an image that is kept open."""
        if self._options.live == "allow":
            return
        if slot.prompt:
            slot.image.chain.check_no_writer()
        else:
            await self._in_thread(slot, slot.image.chain.check_no_writer)

    def _moved(self, slot: Slot, error: SourceChangedError) -> None:
        """Note that the sources of an open image have changed."""
        if slot.stale is not None:
            return
        slot.stale = error
        self._images.discard(slot)
        self._namespace.scanner.outdated()
        if any(handle.slot is slot for handle in self._handles.images()):
            self._namespace.complaints.say(error)
            self._tasks.spawn(self._pages.drop, slot.inode)

    def _watch(self) -> None:
        """See to it that changes are noticed even while readers find all they want in the page cache."""
        if not self._watched:
            self._tasks.spawn(self._watch_open_images)

    async def _watch_open_images(self) -> None:
        if self._watched:
            return
        self._watched = True
        try:
            while slots := [slot for slot in self._images.in_use() if slot.stale is None]:
                for slot in slots:
                    if slot not in self._checking:
                        self._tasks.spawn(self._watch_one, slot)
                await trio.sleep(WATCH_S)
        finally:
            self._watched = False

    async def _watch_one(self, slot: Slot) -> None:
        self._checking.add(slot)
        try:
            await self._check(slot)
        except (VdifsError, OSError):
            pass  # one that changed was seen to; one that hangs or fails tells its readers by itself
        finally:
            self._checking.discard(slot)

    async def _open_contents(self, inode: int, node: Node) -> int:
        """Open a file that is no image. Raises MovedError, and why what it holds cannot be made."""
        if not isinstance(node, StatusFile):
            return self._handles.add(Snapshot(await self._contents(inode, node)))
        contents = await self._report.open()
        try:
            return self._handles.add(Snapshot(contents))
        except BaseException:
            self._report.close(contents)
            raise

    async def _size(self, inode: int, node: StatusFile | Sidecar) -> int:
        return await self._report.size() if isinstance(node, StatusFile) else len(await self._contents(inode, node))

    async def _contents(self, inode: int, node: Node) -> bytes:
        """Return what a file about an image holds now. Raises MovedError, and why it cannot be made."""
        if not isinstance(node, Sidecar):
            raise VdifsError(f"{node}: no file", errno=errno.EISDIR)
        await self._namespace.scanner.fresh()
        source = self._namespace.tree.source(node.path)
        if source is None or self._namespace.tree.inode(node) != inode:
            raise MovedError(f"{printable(node.path)}: has changed, or was removed: look its name up again")
        return await self._sidecars.read(inode, node, source)

    async def _status(self) -> bytes:
        namespace = self._namespace
        self._counters.scans = namespace.scanner.scans
        if self.inspection is not None:
            self.inspection.retry()
        status = Status(
            options=self._options,
            tree=namespace.tree,
            started=self._started,
            confinement=self.confinement,
            counters=self._counters,
            images_open=len(self._images),
            inodes_known=len(namespace.inodes),
            open_files=self._handles.images(),
            failures=namespace.failures.items(),
            trouble=namespace.scanner.trouble,
            images_to_open=0 if self.inspection is None else await trio.to_thread.run_sync(self.inspection.unknown),
        )
        return await trio.to_thread.run_sync(status_json, status, limiter=self._one_status)
