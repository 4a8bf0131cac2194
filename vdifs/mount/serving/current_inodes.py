"""Which inode number a node has now: that of its present state, or, while only metadata change, the earlier one.

    open, and a witness proves that nothing was written    the number by which it was opened
    looked at a moment ago, and only ctimes have moved     the number that was told then; nothing is proven
    else                                                   the number of the present state

A number that is kept without proof stands for bytes that may be others. So what the kernel was told under it must be
true of them too, and no program may have the earlier state open: else the file has its new number at once.
"""

from collections.abc import Awaitable, Callable
from itertools import islice

from vdifs.chain.policy import MAX_DEPTH
from vdifs.errors import VdifsError
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.images.sizes_ahead import Wanted
from vdifs.mount.view.attributes import FileSize
from vdifs.mount.view.inodes import InodeTable, KnownInode, StaleInodeError
from vdifs.mount.view.nodes import ImageFile, Node
from vdifs.mount.view.pairs import members_of
from vdifs.mount.view.recent_inodes import Fingerprints, RecentInodes
from vdifs.mount.view.sources import CatalogView, Source, described_files
from vdifs.mount.view.tree import Tree

__all__ = ["CurrentInodes"]

_MOST_FILES = 2 * MAX_DEPTH


class CurrentInodes:
    """The present numbers of one mount. tree: the state of it that is shown now; the namespace sets another one."""

    def __init__(self, tree: Tree, catalog: CatalogView, images: OpenImages, inodes: InodeTable) -> None:
        self.tree = tree
        self._catalog = catalog
        self._images = images
        self._inodes = inodes
        self._recent = RecentInodes()

    def of(self, node: Node) -> int | None:
        """Return the number that a node has now, None if it is an image that is not there."""
        inode = self.tree.inode(node)
        if inode is None or not isinstance(node, ImageFile):
            return inode
        source, opened = self.tree.source_of(node), self._images.of(node)
        if source is None or source.problem is not None:
            return inode
        if opened is not None and opened.inode != inode:
            if not self._is_as_opened(opened):
                self._forget_if_held(opened)
            elif self.state_of(node, opened) == opened.inode:
                return opened.inode
        return self._recent.kept(node, inode, lambda: self._files(node))

    def tell(self, node: Node, inode: int) -> None:
        """Take note that the kernel asked for the number of a node, or for the node by its number.

        That of an image that cannot be served is not kept: it is the number of its problem.
        """
        source = self.tree.source_of(node) if isinstance(node, ImageFile) else None
        if isinstance(node, ImageFile) and source is not None and source.problem is None:
            self._recent.tell(node, inode, lambda: self._files(node))

    def _files(self, file: ImageFile) -> Fingerprints:
        """Return the files of a chain as the tree shows them: not as they may be since."""
        members = members_of(self.tree.entries, file)
        return tuple(islice((each for entry in members for each in entry.fingerprints), _MOST_FILES))

    def state_of(self, file: ImageFile, opened: OpenImage) -> int:
        """Return the number of the state in which an image was opened: another than it was opened by if that was kept.

        While it is open, a witness tells whether it still holds what it held then.
        """
        return self.tree.inode_in(file, opened.generation)

    def is_size_current(self, inode: int, file: ImageFile, known: KnownInode) -> bool:
        """Return whether the size is that of the present state: not only of that which the number was given for."""
        if not self._recent.is_kept(file):
            return True
        opened = self._images.get(inode)
        if self.tree.inode(file) in (inode, known.size_state):
            return True
        return opened is not None and self._is_as_opened(opened)

    def note_size(self, inode: int, file: ImageFile, opened: OpenImage) -> None:
        """Take note of the size of an open image. Raises StaleInodeError if the kernel was told another by this number.

        It would believe the earlier size, and end reads there.
        """
        known = self._inodes.get(inode)
        if known is None:
            return
        size, state = FileSize.of(opened.image), self.state_of(file, opened)
        if known.file_size not in (None, size) and state != inode:
            raise self.renumber(file, opened)
        known.file_size = known.file_size or self._inodes.shared(size)
        known.size_state = None if state == inode else state

    def note_size_ahead(self, wanted: Wanted, size: FileSize) -> None:
        """Take note of a size that was found ahead, unless the number stands for another state by now."""
        known = self._inodes.get(wanted.inode)
        if known is not None and known.file_size is None and self.tree.inode(wanted.file) == wanted.inode:
            known.file_size = self._inodes.shared(size)

    def discard_earlier(self, inode: int, source: Source) -> None:
        """Hand out no more what is open under a number that was kept, if it may be of another state than `source`.

        Raises StaleInodeError if a program has it.
        """
        opened = self._images.get(inode)
        if opened is not None and opened.generation != source.generation and not self._is_as_opened(opened):
            if self._forget_if_held(opened):
                raise StaleInodeError("has changed", where=str(opened.file))
            self._images.discard(opened)

    def renumber(self, file: ImageFile, opened: OpenImage) -> StaleInodeError:
        """Give a file the number of its present state at once, as it cannot keep another; return what to raise.

        opened: that state, opened by the number that was kept.
        """
        self.forget(file)
        self._images.discard(opened)
        return StaleInodeError("has changed", where=file.path)

    async def drop_earlier_pages(
        self,
        inode: int,
        file: ImageFile,
        opened: OpenImage,
        is_open: Callable[[], bool],
        drop: Callable[[int], Awaitable[bool]],
    ) -> None:
        """Return once the kernel serves no pages of another state than the one that is opened under this number.

        Where a number was kept through a change, it may have some. As long as a program has the other state open it
        may read more of them, and this one must have another number. Raises StaleInodeError.
        """
        known, state = self._inodes.get(inode), self.state_of(file, opened)
        while (of := inode if known is None or known.pages_state is None else known.pages_state) != state:
            if known is None or is_open() or not await drop(inode):
                raise self.renumber(file, opened)
            if not is_open() and of == (known.pages_state or inode):
                known.pages_state = None if state == inode else state  # until the handle is there nothing else happens

    def forget(self, file: ImageFile) -> None:
        """Keep no number for a file without proof."""
        self._recent.forget(file)

    def _forget_if_held(self, opened: OpenImage) -> bool:
        """Return whether a program holds an image that may be of an earlier state: then no number is kept for it."""
        if opened.file is not None and opened.holders:
            self._recent.forget(opened.file)
        return opened.holders > 0

    def _is_as_opened(self, opened: OpenImage) -> bool:
        """Tell whether an open image holds what its files hold now."""
        if opened.file is None or not opened.on_local_disk or opened.stale is not None:
            return False
        try:
            opened.image.check_unchanged()
            described = described_files(self._catalog, opened.file)
        except VdifsError:
            return False
        return opened.image.chain.was(described, settled=False)
