"""The attributes of nodes, as far as they are known without opening anything."""

import time
from stat import S_IFDIR, S_IFREG
from typing import assert_never

from vdifs.mount.serving.current_inodes import CurrentInodes
from vdifs.mount.serving.failures import Failures
from vdifs.mount.view.attributes import Attributes, FileSize, Ownership
from vdifs.mount.view.inodes import InodeTable, StaleInodeError
from vdifs.mount.view.nodes import Folder, ImageFile, Node, Sidecar, StatusFile

__all__ = ["NodeAttributes"]


class NodeAttributes:
    """The attributes of the tree that is shown now. changed_ns: when it became another, for the times of folders."""

    def __init__(
        self, ownership: Ownership, inodes: InodeTable, current_inodes: CurrentInodes, failures: Failures
    ) -> None:
        self._ownership = ownership
        self._inodes = inodes
        self._current_inodes = current_inodes
        self._failures = failures
        self.changed_ns = time.time_ns()

    def of(self, inode: int, node: Node) -> Attributes:
        """Return the attributes of a node that has that number. Raises StaleInodeError for a folder that has gone."""
        match node:
            case Folder():
                return self._of_folder(inode, node)
            case StatusFile():
                return self._of_status(inode, node)
            case Sidecar():
                return self._of_sidecar(inode, node)
            case ImageFile():
                known = self._inodes.get(inode)
                return self.of_file(inode, node, known.file_size if known else None)
            case _:
                assert_never(node)

    def of_file(self, inode: int, file: ImageFile, size: FileSize | None) -> Attributes:
        """Return those of a file of `size`, or for want of that a placeholder of size 0; without rights if broken."""
        tree = self._current_inodes.tree
        source, links = tree.source_of(file), tree.links(file)
        assert source is not None, "the file has a number, so its image is there"
        failed = self._failures.standing(inode) is not None
        broken = source.problem is not None or failed
        mode, uid, gid = (self._ownership.of_broken if broken else self._ownership.of_file)(source.access)
        # A program that has the file open reads nothing beyond this size: one that was known stays, whatever fails now.
        length, blocks = (size.length, size.blocks) if size else (0, 0)
        # What failed may be well again under the same number; its size must not be taken for 0 then.
        lasting = source.problem is not None or (size is not None and not failed)
        if lasting and (known := self._inodes.get(inode)) is not None:
            lasting = self._current_inodes.is_size_current(inode, file, known)
        times = source.mtime_ns, source.ctime_ns
        return Attributes(inode, S_IFREG | mode, uid, gid, links, length, blocks, *times, lasting=lasting)

    def _of_folder(self, inode: int, folder: Folder) -> Attributes:
        tree = self._current_inodes.tree
        if not tree.is_there(folder):
            raise StaleInodeError("no such folder any more", where=folder.path)
        mode, uid, gid = self._ownership.of_folder(tree.access(folder))
        return Attributes(inode, S_IFDIR | mode, uid, gid, mtime_ns=self.changed_ns, ctime_ns=self.changed_ns)

    def _of_status(self, inode: int, node: StatusFile) -> Attributes:
        access = self._ownership.of_folder(self._current_inodes.tree.access(node))
        mode, uid, gid = self._ownership.of_report(access)
        times = self.changed_ns, self.changed_ns
        return Attributes(inode, S_IFREG | mode, uid, gid, 1, 0, 0, *times, lasting=False)

    def _of_sidecar(self, inode: int, sidecar: Sidecar) -> Attributes:
        """Return its attributes but for the size; readers of the image may read what is said about it."""
        source = self._current_inodes.tree.source(sidecar.path)
        assert source is not None, "the file has a number, so its image is there"
        mode, uid, gid = self._ownership.of_report(source.access)
        times = source.mtime_ns, source.ctime_ns
        return Attributes(inode, S_IFREG | mode, uid, gid, 1, 0, 0, *times, lasting=False)
