"""What `--refused hide` leaves out of listings: files made from images that cannot be served, and their empty folders.

An image is left out for what is wrong with itself or a file that it names, or because it is being written. Where a
disk, a server or this machine fails, or its folder is in trouble, it stays, shown as broken: a copy of a mount must not
lose files because of that.
"""

from vdifs.errors import VdifsError
from vdifs.mount.serving.failures import Failures
from vdifs.mount.view.nodes import Folder, ImageFile, Node, Sidecar, StatusFile
from vdifs.mount.view.tree import Tree

__all__ = ["HiddenNodes"]


class HiddenNodes:
    """The nodes of one state of the tree that are left out. failures: what opening has shown."""

    def __init__(self, tree: Tree, failures: Failures) -> None:
        self._tree = tree
        self._failures = failures

    def hides(self, node: Node) -> bool:
        """Tell whether a node is left out. A folder is if all that is in it is."""
        match node:
            case ImageFile():
                return self._is_refused(node.path) or self._failed(node)
            case Sidecar():
                return self._is_refused(node.path)
            case Folder():
                return self._hides_folder(node)
            case StatusFile():
                return False

    def _hides_folder(self, folder: Folder) -> bool:
        if self._tree.is_section(folder) or self._tree.trouble(folder) is not None:
            return False
        if self._tree.is_of_base(folder):  # what is in it has the base in its chain
            return folder.base is not None and self._is_refused(folder.base)
        children = self._tree.children(folder)
        return bool(children) and all(map(self.hides, (children or {}).values()))

    def _failed(self, file: ImageFile) -> bool:
        inode = self._tree.inode(file) if self._failures else None
        return inode is not None and self._failures.refuses(inode)

    def _is_refused(self, path: str) -> bool:
        source = self._tree.source(path)
        if source is None:
            return False
        if source.problem is None:
            return self._failures.refuses_image(path)
        return not self._is_passing(source.problem)

    def _is_passing(self, error: VdifsError) -> bool:
        return error.passing or any(error is trouble for trouble in self._tree.troubles.values())
