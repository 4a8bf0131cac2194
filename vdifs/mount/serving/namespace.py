"""Names and attributes: what lookup, readdir and stat get. Knows trio, not FUSE.

    lookup, listing    names only: a file not yet looked into gets a placeholder, so that no image is opened
    stat               opens the image in the state that its inode number stands for

Once the sources have moved on from that state, a request for the number gets ESTALE, and the kernel looks the name up
again.
"""

import errno
import posixpath
import time
from collections.abc import Callable, Collection
from typing import Protocol

import trio

from vdifs.errors import SourceChangedError, VdifsError
from vdifs.mount.serving.current_inodes import CurrentInodes
from vdifs.mount.serving.failures import Failures
from vdifs.mount.serving.hidden_nodes import HiddenNodes
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.images.sizes_ahead import SizesAhead, Wanted
from vdifs.mount.serving.node_attributes import NodeAttributes
from vdifs.mount.serving.rate_limited_log import RateLimitedLog
from vdifs.mount.serving.scanner import Scannable, Scanner
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import DeadlineError, Threads
from vdifs.mount.view.attributes import Attributes, FileSize, Ownership
from vdifs.mount.view.inodes import InodeTable, StaleInodeError
from vdifs.mount.view.names import DEFAULT_VIEWS
from vdifs.mount.view.nodes import Folder, ImageFile, Node, Sidecar
from vdifs.mount.view.sources import CatalogView, Source
from vdifs.mount.view.tree import Tree
from vdifs.report.status import Counters

__all__ = ["Namespace", "ScannedCatalog"]


_NAMES = frozenset[int]()
_DOTS = (".", "..")
_TRIED_AT_ONCE = 64
_TRIED_FOR_S = 1.0
_OPENINGS = 4
"""So often an image is opened of which only metadata change meanwhile: the kernel itself tries no more than twice."""


class ScannedCatalog(CatalogView, Scannable, Protocol):
    """A catalog that can be scanned."""


class Namespace:
    """The names of one mount, as the source holds them now."""

    def __init__(
        self,
        catalog: ScannedCatalog,
        images: OpenImages,
        tasks: Tasks,
        threads: Threads,
        ownership: Ownership,
        salt: str = "",
        sidecars: Collection[str] = (),
        *,
        views: Collection[str] = DEFAULT_VIEWS,
        hide: bool = False,
    ) -> None:
        """Take a catalog that was scanned once. salt: the options on which the bytes of the files depend.

        sidecars: the kinds of files about images. views: see Tree. hide: leave out images that cannot be served.
        """
        self._catalog = catalog
        self._images = images
        self._salt = salt
        self._sidecars = sidecars
        self._views = views
        self._hide = hide
        self._threads = threads
        self._preparing = trio.Lock()
        self.inodes = InodeTable()
        self.current_inodes = CurrentInodes(self._new_tree(), catalog, images, self.inodes)
        self.failures = Failures()
        self._ahead = SizesAhead(images.opener, tasks, threads)
        self._attributes = NodeAttributes(ownership, self.inodes, self.current_inodes, self.failures)
        self.warnings = RateLimitedLog()
        self.counters = Counters()
        self.scanner = Scanner(catalog, tasks, threads, self._renew)
        self.when_changed: Callable[[], None] = lambda: None
        """Called after each scan that found a change."""

    @property
    def tree(self) -> Tree:
        """The names that are shown now: another one after each scan that found a change."""
        return self.current_inodes.tree

    async def lookup(self, parent: int, name: str) -> Attributes:
        """Return what is called `name` in a folder, and count it as known to the kernel. Raises VdifsError, ENOENT."""
        self.counters.lookups += 1
        await self.scanner.fresh()
        await self._prepare(self.node(parent))
        node = self._relative(parent, name)
        if node is None or (name not in _DOTS and await self._is_hidden(node)):
            self.check_known(parent)
            raise VdifsError("no such file", where=name, remedy="list its folder", errno=errno.ENOENT)
        attributes = self.peek(node)
        if name == "." and attributes.inode != parent:
            raise StaleInodeError("has changed", where=str(node))
        self.hand_out(attributes.inode, node)
        return attributes

    def hand_out(self, inode: int, node: Node) -> None:
        """Take note that the kernel is given `inode` once more. Raises VdifsError if it stands for another node."""
        self.inodes.hand_out(inode, node)
        self.current_inodes.tell(node, inode)

    def told(self, inode: int, node: Node) -> None:
        """Take note that the kernel is given `inode`, of what a folder holds, in an answer about the folder.

        Raises what `hand_out` does.
        """
        self.hand_out(inode, node)
        if isinstance(node, ImageFile):
            self._ahead.tell(inode, node)

    async def listing(self, inode: int) -> list[tuple[str, Node]]:
        """Return what is in a folder, `.` and `..` first. `check_known` tells whether that is all."""
        self.counters.listings += 1
        await self.scanner.fresh()
        if self._hide:
            await self._try_again()
        folder = self._folder(inode)
        await self._prepare(folder)
        children = self.tree.children(folder)
        if children is None:
            raise StaleInodeError("no such folder any more", where=folder.path)
        if self._hide:
            hidden = HiddenNodes(self.tree, self.failures)
            children = {name: node for name, node in children.items() if not hidden.hides(node)}
        return [(".", folder), ("..", self._above(folder)), *children.items()]

    def check_known(self, inode: int) -> None:
        """Raise why it cannot be told what a folder holds: one in trouble must not look like an empty one."""
        if (trouble := self.tree.trouble(self._folder(inode))) is not None:
            raise trouble.bare()

    async def stat(self, inode: int) -> Attributes:
        """Return the attributes of what the kernel knows under that number, looking into it if that was not done yet.

        Raises StaleInodeError, DeadlineError. A file that cannot be opened is shown as broken.
        """
        self.counters.stats += 1
        await self.scanner.fresh()
        node = self.node(inode)
        if isinstance(node, ImageFile):
            return await self._stat_file(inode, node)
        await self._prepare(node)
        return self.peek(node)

    async def acquire(self, inode: int) -> tuple[ImageFile, OpenImage]:
        """Open the image file with that number; the caller has it until `OpenImages.release`.

        Raises StaleInodeError, DeadlineError, and why the image cannot be opened.
        """
        for tries_left in reversed(range(_OPENINGS)):
            await self.scanner.fresh()
            file, source = self._current(inode)
            self.current_inodes.tell(file, inode)
            if source.problem is not None:
                raise source.problem.bare()
            if (failure := self.failures.standing(inode)) is not None:
                raise failure.bare()  # as stat says: size 0, which the kernel would believe if this open came through
            try:
                return file, await self._open(inode, file, source)
            except SourceChangedError as error:
                self.scanner.outdated()
                if not tries_left:
                    raise error.told_as(StaleInodeError) from error
        raise AssertionError("the last try returns or raises")

    async def _open(self, inode: int, file: ImageFile, source: Source) -> OpenImage:
        """Open an image in the state of `source`. Raises SourceChangedError if that has passed."""
        self.current_inodes.discard_earlier(inode, source)
        try:
            opened = await self._images.acquire(inode, file, source)
        except (SourceChangedError, StaleInodeError):
            raise
        except DeadlineError as error:
            raise error.at(file.path) from None
        except VdifsError as error:
            self.failures.add(inode, file, error)
            self.current_inodes.forget(file)
            raise
        try:
            self.failures.remove(inode)
            self.current_inodes.note_size(inode, file, opened)
        except BaseException:
            self._images.release(opened)
            raise
        return opened

    def node(self, inode: int) -> Node:
        """Return the node with that number. Raises StaleInodeError."""
        known = self.inodes.get(inode)
        node = self.tree.find(inode) if known is None else known.node
        if node is None:
            raise StaleInodeError("no such inode", where=f"{inode:#x}")
        return node

    def peek(self, node: Node) -> Attributes:
        """Return the attributes of a node as far as they are known without opening anything. Raises StaleInodeError."""
        inode = self.current_inodes.of(node)
        if inode is None:
            raise StaleInodeError("was removed", where=str(node))
        return self._attributes.of(inode, node)

    def path_of(self, file: ImageFile) -> str:
        """Return a path of the mount that leads to `file`."""
        return next(iter(self.tree.paths(file)), file.path)

    async def source_of_sidecar(self, inode: int, sidecar: Sidecar) -> Source:
        """Return what is known of the image that a file is about, if its number stands for the present state.

        Raises StaleInodeError.
        """
        await self.scanner.fresh()
        source = self.tree.source(sidecar.path)
        if source is None or self.tree.inode(sidecar) != inode:
            raise StaleInodeError("has changed, or was removed", where=sidecar.path)
        return source

    def note_change(self, error: SourceChangedError, is_open: bool) -> None:
        """Take note that the sources of an image have changed; where a program has it open, the log tells."""
        self.scanner.outdated()
        if is_open:
            self.warnings.log(error)

    async def _is_hidden(self, node: Node) -> bool:
        if not self._hide:
            return False
        await self._try_again()
        return HiddenNodes(self.tree, self.failures).hides(node)

    async def _try_again(self) -> None:
        """Look again into hidden files that may be well by now: no user would ever do so."""
        due = [inode for inode in self.failures.due() if self.failures.refuses(inode)][:_TRIED_AT_ONCE]
        if due:
            with trio.move_on_after(_TRIED_FOR_S):
                async with trio.open_nursery() as nursery:
                    for inode in due:
                        nursery.start_soon(self._try_one_again, inode)

    async def _try_one_again(self, inode: int) -> None:
        try:
            await self._look_into(inode)
        except (StaleInodeError, DeadlineError):
            self.scanner.outdated()

    async def _stat_file(self, inode: int, file: ImageFile) -> Attributes:
        await self._ahead.asked(inode)
        _, source = self._current(inode)
        known = self.inodes.get(inode)
        size = known.file_size if known and self.current_inodes.is_size_current(inode, file, known) else None
        if size is None and source.problem is None and self.failures.standing(inode) is None:
            size = await self._look_into(inode)
            self._current(inode)  # as the tree may be another one now
            self._ahead.go_on(inode, self._wanted, self.current_inodes.note_size_ahead)
        self.current_inodes.tell(file, inode)
        return self._attributes.of_file(inode, file, size or (known.file_size if known else None))

    def _wanted(self, inode: int, file: ImageFile) -> Wanted | None:
        """Return what to open to know the size of a file before a program asks for it."""
        known, source = self.inodes.get(inode), self.tree.source_of(file)
        if known is None or known.file_size is not None or source is None or source.problem is not None:
            return None
        if self.tree.inode(file) != inode or self.failures.standing(inode) is not None:
            return None
        return Wanted(inode, file, source)

    async def _look_into(self, inode: int) -> FileSize | None:
        """Return the size of an image file, None if it cannot be opened."""
        try:
            _, opened = await self.acquire(inode)
        except (StaleInodeError, DeadlineError):
            raise
        except VdifsError as error:
            self.warnings.log(error)
            return None
        try:
            return FileSize.of(opened.image)
        finally:
            self._images.release(opened)

    def _current(self, inode: int) -> tuple[ImageFile, Source]:
        """Return the image file with that number and its source, if the number stands for the present state of it."""
        node = self.node(inode)
        if not isinstance(node, ImageFile):
            raise VdifsError("no image", where=str(node), remedy="open an image in it", errno=errno.EISDIR)
        source = self.tree.source_of(node)
        if source is None or self.current_inodes.of(node) != inode:
            raise StaleInodeError("has changed, or was removed", where=node.path)
        return node, source

    async def _prepare(self, node: Node) -> None:
        """Return when a folder can be looked into at once: of very many images, its names are made in a thread."""
        while isinstance(node, Folder) and not (tree := self.tree).is_prepared(node):
            async with self._preparing:
                if not tree.is_prepared(node):
                    await self._threads.run_work(self._threads.work(_NAMES), tree.prepare, node)

    def _relative(self, parent: int, name: str) -> Node | None:
        match name:
            case ".":
                return self.node(parent)
            case "..":
                return self._above(self._folder(parent))
            case _:
                return self.tree.child(self._folder(parent), name)

    def _folder(self, inode: int) -> Folder:
        node = self.node(inode)
        if not isinstance(node, Folder):
            raise VdifsError("no folder", where=str(node), remedy="name a folder", errno=errno.ENOTDIR)
        return node

    def _above(self, folder: Folder) -> Folder:
        above = self.tree.at(posixpath.dirname(folder.path))
        return above if isinstance(above, Folder) else Folder("")

    def _renew(self) -> None:
        self.current_inodes.tree = self._new_tree()
        self._attributes.changed_ns = time.time_ns()
        self.failures.keep(lambda inode, file: self.tree.inode(file) == inode)
        for trouble in self.tree.troubles.values():
            self.warnings.log(trouble)
        self._images.close_useless(self._is_of_use)
        self.when_changed()

    def _new_tree(self) -> Tree:
        return Tree(self._catalog, self._salt, self._sidecars, self._views)

    def _is_of_use(self, opened: OpenImage) -> bool:
        """Tell whether an image that is kept open is one that may be asked for again."""
        known = self.inodes.get(opened.inode)
        return known is not None and self.current_inodes.of(known.node) == opened.inode
