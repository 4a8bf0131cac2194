"""Which inode number a node has now: that of its present state, or, while only metadata change, the earlier one.

    open, and a witness proves that nothing was written    the number by which it was opened
    looked at a moment ago, and only ctimes have moved     the number that was told then; nothing is proven
    else                                                   the number of the present state

A number that is kept without proof stands for bytes that may be others. So what the kernel was told under it must be
true of them too, and no program may have the earlier state open: else the file has its new number at once.
"""

from vdifs.chain.links import MAX_DEPTH
from vdifs.errors import VdifsError, printable
from vdifs.mount.serving.open_image import Slot
from vdifs.mount.serving.open_images import OpenImages
from vdifs.mount.view.attributes import Facts
from vdifs.mount.view.inodes import InodeTable, KnownInode
from vdifs.mount.view.moved import MovedError
from vdifs.mount.view.nodes import ImageFile, Node
from vdifs.mount.view.sources import Catalog, Source
from vdifs.mount.view.told_numbers import State, ToldNumbers
from vdifs.mount.view.tree import Tree
from vdifs.storage.fingerprint import Fingerprint

__all__ = ["PresentNumbers"]

_MOST_FILES = 2 * MAX_DEPTH


class PresentNumbers:
    """Those of one mount. tree: the state of it that is shown now; the namespace sets another one."""

    def __init__(self, tree: Tree, catalog: Catalog, images: OpenImages, inodes: InodeTable) -> None:
        self.tree = tree
        self._catalog = catalog
        self._images = images
        self._inodes = inodes
        self._told = ToldNumbers()

    def of(self, node: Node) -> int | None:
        """Return the number that a node has now, None if it is an image that is not there."""
        inode = self.tree.inode(node)
        if inode is None or not isinstance(node, ImageFile):
            return inode
        source, slot = self.tree.source(node.path), self._images.of(node)
        if source is None or source.problem is not None:
            return inode
        if slot is not None and slot.inode != inode:
            if not self._is_as_opened(slot):
                self._forget_if_held(slot)
            elif self.state_of(node, slot) == slot.inode:
                return slot.inode
        return self._told.kept(node, inode, lambda: self._files(node))

    def tell(self, node: Node, inode: int) -> None:
        """Take note that the kernel asked for the number of a node, or for the node by its number.

        That of an image that cannot be served is not kept: it is the number of its problem.
        """
        source = self.tree.source(node.path) if isinstance(node, ImageFile) else None
        if isinstance(node, ImageFile) and source is not None and source.problem is None:
            self._told.tell(node, inode, lambda: self._files(node))

    def _files(self, file: ImageFile) -> State:
        """Return the files of a chain as the tree shows them: not as they may be since."""
        found: list[Fingerprint] = []
        path: str | None = file.path
        while path is not None and (entry := self.tree.entries.get(path)) is not None and len(found) < _MOST_FILES:
            found += entry.fingerprints
            path = entry.backing_path
        return tuple(found)

    def state_of(self, file: ImageFile, slot: Slot) -> int:
        """Return the number of the state in which an image was opened: another than it was opened by if that was kept.

        While it is open, a witness tells whether it still holds what it held then.
        """
        return self.tree.inode_in(file, slot.generation)

    def are_facts_present(self, inode: int, file: ImageFile, known: KnownInode) -> bool:
        """Tell whether the facts are those of the present state: not only of that which the number was given for."""
        if not self._told.is_kept(file):
            return True
        slot = self._images.get(inode)
        return self.tree.inode(file) in (inode, known.facts_of) or (slot is not None and self._is_as_opened(slot))

    def note_facts(self, inode: int, file: ImageFile, slot: Slot) -> None:
        """Take note of what an open image tells. Raises MovedError if the kernel was told otherwise under this number.

        It would believe the earlier size, and end reads there.
        """
        known = self._inodes.get(inode)
        if known is None:
            return
        facts, state = Facts.of(slot.image, file.view), self.state_of(file, slot)
        if known.facts not in (None, facts) and state != inode:
            raise self.move(file, slot)
        known.facts = known.facts or facts
        known.facts_of = None if state == inode else state

    def discard_earlier(self, inode: int, source: Source) -> None:
        """Hand out no more what is open under a number that was kept, if it may be of another state than `source`.

        Raises MovedError if a program has it.
        """
        slot = self._images.get(inode)
        if slot is not None and slot.generation != source.generation and not self._is_as_opened(slot):
            if self._forget_if_held(slot):
                raise MovedError(f"{slot.file}: has changed: look its name up again")
            self._images.discard(slot)

    def move(self, file: ImageFile, slot: Slot) -> MovedError:
        """Have a file have the number of its present state at once, as it cannot keep another; return what to raise.

        slot: that state, opened by the number that was kept.
        """
        self.forget(file)
        self._images.discard(slot)
        return MovedError(f"{printable(file.path)}: has changed: look its name up again")

    def forget(self, file: ImageFile) -> None:
        """Keep no number for a file without proof."""
        self._told.forget(file)

    def _forget_if_held(self, slot: Slot) -> bool:
        """Return whether an image is held that may be of an earlier state: then no number is kept for it."""
        if slot.file is not None and slot.holders:
            self._told.forget(slot.file)
        return slot.holders > 0

    def _is_as_opened(self, slot: Slot) -> bool:
        """Tell whether an open image holds what its files hold now."""
        if slot.file is None or not slot.prompt or slot.stale is not None:
            return False
        try:
            slot.image.check_unchanged()
            described = tuple(each for entry in self._catalog.chain(slot.file.path) for each in entry.fingerprints)
        except VdifsError:
            return False
        return slot.image.chain.was(described, settled=False)
