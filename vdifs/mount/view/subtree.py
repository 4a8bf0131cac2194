"""A part of the tree: files put under their names, and the folders that these imply.

A folder's name is taken before any file's, and of two files the first put has the name. What finds its name taken, or
has one that no file system would hold, is not offered; the reason is kept.
"""

import os
import posixpath
from collections.abc import Iterable

from vdifs.errors import UsageError, VdifsError
from vdifs.mount.view import names
from vdifs.mount.view.nodes import Folder, ImageFile, Node
from vdifs.output.largest import check_holds

__all__ = ["Subtree"]


class Subtree:
    """The folders at and beneath `root`. folders: path in the mount -> name -> node."""

    def __init__(self, root: Folder, paths: Iterable[str], shut: Iterable[str] = ()) -> None:
        """Make the folders that `paths`, relative to `root`, stand in.

        shut: folders that are there too, of which it is not known what they hold: without them, a mirror would delete
        its copies of all that is in there.
        """
        self._root = root
        self.folders: dict[str, dict[str, Node]] = {root.path: {}}
        self.problems: list[VdifsError] = []
        for path in (*paths, *(f"{folder}/" for folder in shut)):
            for folder in names.folders_of(path):
                self._make(Folder(f"{root.path}/{folder}", root.base))

    def put(self, path: str, node: Node, backing_name: str = "") -> None:
        """Offer `node` at `path`, relative to the root and in a folder that is there, unless the name cannot be had.

        backing_name: the name that the file would record, if any.
        """
        full = f"{self._root.path}/{path}"
        parent, name = posixpath.split(full)
        if not names.name_fits(name):
            self._refuse(full, f"the name has over {names.MAX_NAME} bytes", "give the image a shorter one")
        elif len(os.fsencode(backing_name)) > names.MAX_BACKING_NAME:
            why = f"its backing name has over {names.MAX_BACKING_NAME} bytes"
            self._refuse(full, why, "use shorter folder names")
        elif parent not in self.folders or name in self.folders[parent]:
            self._refuse(full, "the name is taken by another image", "rename one of them")
        else:
            self.folders[parent][name] = node

    def put_if_held(self, path: str, file: ImageFile, virtual_size: int | None) -> None:
        """Offer a file as `put` does, unless its format cannot hold a disk of `virtual_size` bytes; None: not known."""
        try:
            check_holds(file.view, virtual_size or 0)
        except UsageError as error:
            what = f"not offered: {error.what}"
            self.problems.append(UsageError(what, where=f"{self._root.path}/{path}", remedy=error.remedy))
        else:
            self.put(path, file)

    def sorted(self) -> "Subtree":
        """Sort every folder by name, and return the subtree."""
        for path, children in self.folders.items():
            self.folders[path] = {name: children[name] for name in sorted(children)}
        return self

    def _make(self, folder: Folder) -> None:
        if folder.path in self.folders:
            return
        parent, name = posixpath.split(folder.path)
        self.folders[folder.path] = {}
        self.folders[parent][name] = folder

    def _refuse(self, path: str, why: str, remedy: str) -> None:
        self.problems.append(VdifsError(f"not offered: {why}", where=path, remedy=remedy))
