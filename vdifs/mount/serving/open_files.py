"""Open files: what open, read, close, stat and getxattr of a file do. Knows trio, not FUSE."""

import errno
import os
from contextlib import suppress

from vdifs.errors import SourceChangedError, VdifsError, WouldBlock
from vdifs.mount.serving.change_watch import ChangeWatch, PageCache
from vdifs.mount.serving.control.control_files import ControlFiles
from vdifs.mount.serving.handles import FrozenContents, Handle, Handles
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.published import Published
from vdifs.mount.view.attributes import Attributes
from vdifs.mount.view.inodes import StaleInodeError
from vdifs.mount.view.nodes import ImageFile, Sidecar, StatusFile
from vdifs.mount.view.xattrs import xattr_names, xattr_value

__all__ = ["OpenFiles"]


class OpenFiles:
    """The open files of one mount. handles: none yet; the watch has the same."""

    def __init__(
        self,
        namespace: Namespace,
        images: OpenImages,
        handles: Handles,
        published: Published,
        watch: ChangeWatch,
        pages: PageCache,
        control_files: ControlFiles,
    ) -> None:
        self._namespace = namespace
        self._images = images
        self._handles = handles
        self._published = published
        self._watch = watch
        self._pages = pages
        self._control_files = control_files
        self._counters = namespace.counters

    async def open(self, inode: int) -> tuple[int, bool]:
        """Open a file; return the number to read it by, and whether it may be cached."""
        self._counters.opens += 1
        if not isinstance(node := self._namespace.node(inode), ImageFile):
            contents = await self._control_files.open(inode, node)
            try:
                return self._handles.add(FrozenContents(contents)), False
            except BaseException:
                self._control_files.close(contents)
                raise
        file, opened = await self._namespace.acquire(inode)
        try:
            self._images.check_budget(opened)
            handle = await self._handle(inode, file, opened)
            self._watch.start()
            number = self._handles.add(handle)
        except BaseException:
            self._images.release(opened)
            raise
        try:
            self._published.opened(number, handle)
        except BaseException:
            self.release(number)
            raise
        return number, True

    async def read(self, number: int, offset: int, length: int) -> bytes | memoryview:
        """Return what an open file holds, fewer bytes only at its end. Raises SourceChangedError, VdifsError."""
        handle = self._handles[number]
        if isinstance(handle, FrozenContents):
            return handle.contents[offset : offset + length]
        self._counters.reads += 1
        try:
            data, cold = await self._read(handle.image, offset, length)
        except VdifsError as error:
            self._counters.failed_reads += 1
            if isinstance(error, SourceChangedError):
                self._published.withdraw(handle.image)
                self._watch.note_change(handle.image, error)
            raise
        self._published.count(number, handle)
        in_order = offset == handle.position
        self._published.answered(handle.image, offset, data, in_order=in_order, cold=cold)
        handle.position = offset + len(data)
        handle.read_here += len(data)
        self._counters.bytes_read += len(data)
        return data

    async def seek(self, number: int, offset: int, whence: int) -> int:
        """Return where data, or a hole, begins in an open file at or behind `offset`. Raises VdifsError, ENXIO."""
        handle = self._handles[number]
        if isinstance(handle, FrozenContents):
            if not 0 <= offset < len(handle.contents):
                raise VdifsError("nothing follows", remedy="ask for what is within the file", errno=errno.ENXIO)
            return offset if whence == os.SEEK_DATA else len(handle.contents)
        try:
            found = await self._seek(handle.image, offset, whence)
        except SourceChangedError as error:
            self._published.withdraw(handle.image)
            self._watch.note_change(handle.image, error)
            raise
        self._published.sought(handle.image, offset, found)
        return found

    def release(self, number: int) -> None:
        """Close an open file."""
        handle = self._handles.remove(number)
        if isinstance(handle, Handle):
            try:
                self._published.closed(number, handle)
            finally:
                self._images.release(handle.image)
        else:
            self._control_files.close(handle.contents)

    async def stat(self, inode: int) -> Attributes:
        """Return the attributes of a node; of an open file also when its sources were removed."""
        if isinstance(node := self._namespace.node(inode), StatusFile | Sidecar):
            attributes = await self._namespace.stat(inode)
            try:
                return attributes.with_size(await self._control_files.size(inode, node))
            except VdifsError:
                return attributes  # a program that opens it is told why
        try:
            return await self._namespace.stat(inode)
        except StaleInodeError:
            handle = self._handles.of_inode(inode)
            if handle is None:
                raise
            await self._watch.check(handle.image)
            return handle.attributes

    def xattr_names(self, inode: int) -> list[bytes]:
        """Return the names of a node's extended attributes."""
        node = self._namespace.node(inode)
        return xattr_names(node) if isinstance(node, ImageFile) else []

    async def xattr(self, inode: int, name: bytes) -> bytes:
        """Return an extended attribute. Raises VdifsError, ENODATA."""
        if name not in self.xattr_names(inode):
            remedy = "see what 'getfattr -m - FILE' lists"
            raise VdifsError("no such extended attribute", remedy=remedy, errno=errno.ENODATA)
        file, opened = await self._namespace.acquire(inode)
        try:
            return xattr_value(file, opened.image, name)
        finally:
            self._images.release(opened)

    async def _handle(self, inode: int, file: ImageFile, opened: OpenImage) -> Handle:
        """Return a handle on an image in the state that its number stands for. Raises StaleInodeError, InUseError."""
        try:
            await self._watch.check(opened)
            await self._watch.check_no_writer(opened)
        except SourceChangedError as error:
            raise error.told_as(StaleInodeError) from error
        await self._namespace.current_inodes.drop_earlier_pages(
            inode, file, opened, lambda: self._handles.of_inode(inode) is not None, self._pages.drop
        )
        attributes = self._namespace.peek(file)
        if attributes.inode != inode:
            raise StaleInodeError("changed while it was opened", where=file.path)
        return Handle(self._namespace.path_of(file), opened, attributes)

    async def _read(self, opened: OpenImage, offset: int, length: int) -> tuple[memoryview, bool]:
        """Return what an image holds, and whether that had to be waited for."""
        if opened.stale is not None:
            raise opened.stale.bare()
        if opened.on_local_disk:
            try:
                return opened.image.view_at(offset, length, wait=False), False
            except WouldBlock:
                pass
        return await self._images.read(opened, opened.image.view_at, offset, length), True

    async def _seek(self, opened: OpenImage, offset: int, whence: int) -> int:
        if opened.stale is not None:
            raise opened.stale.bare()
        if opened.on_local_disk:
            with suppress(WouldBlock):
                return opened.image.seek(offset, whence, wait=False)
        return await self._images.read(opened, opened.image.seek, offset, whence)
