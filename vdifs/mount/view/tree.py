"""The tree of names: which folders and files a mount shows. Knows neither FUSE nor trio, and opens nothing.

    catalog (PATHs and chains)  ->  Tree  ->  folder -> name -> node -> inode number

A tree stands for one state of the catalog; after a scan that found a change there is a new one. Folders are made when
a request looks into them, and those beneath `delta/BASE/` are dropped again when many others were looked at since.
"""

import posixpath
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cachetools import LRUCache

from vdifs.catalog.catalog import Entry
from vdifs.catalog.left_out import LeftOut
from vdifs.catalog.troubles import is_within
from vdifs.chain.access import Access
from vdifs.chain.policy import TRUST_PREFIX
from vdifs.errors import VdifsError
from vdifs.mount.view import names
from vdifs.mount.view.inodes import ROOT, inode_number
from vdifs.mount.view.nodes import Folder, ImageFile, Node, Sidecar, StatusFile
from vdifs.mount.view.pairs import Relatives, is_pair
from vdifs.mount.view.sources import CatalogView, Source, paired_source, source_of
from vdifs.mount.view.subtree import Subtree

__all__ = ["Tree"]

_BASES_KEPT = 64
_FEW = 1000
"""Images of which all folders are made within a few milliseconds."""


class Tree:
    """One state of the tree. salt: the options of the mount that determine the bytes of its files.

    sidecars: the kinds of files about images. views: which of `names.VIEWS` are shown.
    """

    def __init__(
        self,
        catalog: CatalogView,
        salt: str = "",
        sidecars: Collection[str] = (),
        views: Collection[str] = names.DEFAULT_VIEWS,
    ) -> None:
        self._catalog = catalog
        self._entries = catalog.entries
        self.troubles = catalog.troubles
        self._shut = catalog.shut
        self._unseen = self._find_unseen()
        self._salt = salt
        self._sidecars = {f"{names.CONTROL}/{kind}": kind for kind in sidecars}
        self._views = [view for view in names.VIEWS if view in views]
        self._sources: dict[str, Source] = {}
        self._shared: dict[Hashable, Any] = {}
        self._status_access: Access | None = None
        self._sections: dict[str, Subtree] = {}
        self._related = False
        self._bases: LRUCache[str, Subtree] = LRUCache(_BASES_KEPT)
        self._relatives = Relatives(self._entries)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The images by PATH."""
        return self._entries

    def is_prepared(self, folder: Folder) -> bool:
        """Tell whether looking into `folder`, and at what is in it, takes no long time."""
        if len(self._entries) + len(self._shut) <= _FEW:
            return True
        section = self._needed(folder)
        return section is None or (section in self._sections and (self._related or section != names.DELTA))

    def prepare(self, folder: Folder) -> None:
        """Make what `is_prepared` asks for: in a thread, while others use the tree."""
        section = self._needed(folder)
        if section is not None:
            self._section(section)
        if section == names.DELTA:
            self._catalog.overlays("")
            self._related = True

    def is_there(self, folder: Folder) -> bool:
        """Tell whether there is such a folder: what must always be there is not looked into for that."""
        return self._needed(folder) is None or self.is_section(folder) or self.children(folder) is not None

    def children(self, folder: Folder) -> Mapping[str, Node] | None:
        """Return what is in a folder, by name and sorted; None if there is no such folder."""
        if folder.path == "":
            return {section: Folder(section) for section in (*self._views, names.CONTROL)}
        if folder.path == names.CONTROL:
            folders: dict[str, Node] = {kind: Folder(path) for path, kind in sorted(self._sidecars.items())}
            return {**folders, names.STATUS: StatusFile()}
        subtree = self._section(self._section_of(folder.path)) if folder.base is None else self._base(folder.base)
        if subtree is None:
            return None
        found = subtree.folders.get(folder.path)
        return {} if found is None and self._relative_below(folder) is not None else found

    def _relative_below(self, folder: Folder) -> str | None:
        """Return the PATH of an image of which a delta that is not listed stands in a folder; None if none does."""
        if folder.base is None or folder.base not in self._entries:
            return None
        return self._relatives.below(folder.base, folder.path.removeprefix(f"{names.DELTA}/{folder.base}/"))

    def trouble(self, folder: Folder) -> VdifsError | None:
        """Return why it cannot be told what a folder holds, as one of the source that it stands for is in trouble."""
        if not self.troubles or folder.path in ("", names.CONTROL):
            return None
        top = self._section_of(folder.path) if folder.base is None else f"{names.DELTA}/{folder.base}"
        behind = [folder.path.removeprefix(top).lstrip("/"), *([] if folder.base is None else [folder.base])]
        found = (is_within(path, self.troubles) for path in behind)
        within = next((self.troubles[path] for path in found if path is not None), None)
        return within or self._unseen.get(behind[0])

    def _find_unseen(self) -> dict[str, VdifsError]:
        """Return the folders of the source that hold what is in trouble and may be an image that was never seen."""
        below = [path for path in self.troubles if path and not path.startswith(TRUST_PREFIX)]
        if not below:
            return {}
        shown = {*self._shut, *self._entries}.union(*map(names.folders_of, self._entries))
        return {posixpath.dirname(path): self.troubles[path] for path in below if path not in shown}

    def is_section(self, folder: Folder) -> bool:
        """Tell whether a folder is there whatever the images are: the root, `full`, `.vdifs/info`."""
        return folder.base is None and folder.path == self._section_of(folder.path)

    def is_of_base(self, folder: Folder) -> bool:
        """Tell whether a folder is `delta/BASE` itself."""
        return folder.base is not None and folder.path == f"{names.DELTA}/{folder.base}"

    def child(self, folder: Folder, name: str) -> Node | None:
        """Return the node called `name` in a folder."""
        children = self.children(folder)
        found = None if children is None else children.get(name)
        if found is not None or folder.base is None or folder.base not in self._entries:
            return found
        unlisted = Folder(f"{folder.path}/{name}", folder.base)
        path = unlisted.path.removeprefix(f"{names.DELTA}/{folder.base}/")
        return self._relatives.called(folder.base, path) or (unlisted if self._relative_below(unlisted) else None)

    def at(self, path: str) -> Node | None:
        """Return the node at a path of the mount, "" for its root."""
        node: Node | None = Folder("")
        for name in path.split("/") if path else ():
            node = self.child(node, name) if isinstance(node, Folder) else None
        return node

    def source(self, path: str) -> Source | None:
        """Return what is known of the chain of the image PATH, None if it is not there."""
        known = self._sources.get(path)
        if known is None and (entry := self._entries.get(path)) is not None:
            known = self._sources[path] = source_of(self._catalog, entry, self._shared)
        return known

    def source_of(self, file: ImageFile) -> Source | None:
        """Return what is known of what a file is made of: of its image's chain, and of its base's if it is another."""
        own = self.source(file.path)
        if own is None or file.base is None or not is_pair(self._entries, file):
            return own
        base = self.source(file.base)
        return None if base is None else paired_source(own, base)

    def access(self, node: Folder | StatusFile) -> Access:
        """Return the access to a folder, or to the status: that to the folders of the source behind it."""
        if isinstance(node, StatusFile):
            if self._status_access is None:
                self._status_access = self._catalog.status_access()
            return self._status_access
        top = self._section_of(node.path) if node.base is None else f"{names.DELTA}/{node.base}"
        depth = node.path.count("/") - top.count("/")
        places = [] if node.base is None else [(node.base, node.base.count("/"))]
        if depth or places:
            places.append((self._image_in(node), depth))
        return self._catalog.folder_access(places)

    def _image_in(self, folder: Folder) -> str:
        """Return the PATH of an image that the folder holds, or one below it; an empty one if it has gone."""
        node: Node | None = folder
        while isinstance(node, Folder):
            if node is not folder and node.base is not None and folder.base is None:
                return node.base
            node = next(iter((self.children(node) or {}).values()), None)
        if isinstance(node, ImageFile | Sidecar):
            return node.path
        return self._relative_below(folder) or ""

    def inode(self, node: Node) -> int | None:
        """Return the node's number, None if it is an image that is not there."""
        match node:
            case Folder(path=""):
                return ROOT
            case Folder():
                return inode_number("folder", node.path)
            case StatusFile():
                return inode_number("status")
            case Sidecar():
                source = self.source(node.path)
                return inode_number("sidecar", node.kind, node.path, source.generation) if source else None
            case ImageFile():
                source = self.source_of(node)
                return None if source is None else self.inode_in(node, source.generation)

    def inode_in(self, file: ImageFile, generation: bytes) -> int:
        """Return the number that an image file has while its chain is in the state that has that generation."""
        return inode_number(file.view, file.path, file.base or "", b"d" if file.base else b"", generation, self._salt)

    def find(self, inode: int) -> Node | None:
        """Return the node with that number, by looking at all of them: only for file handles older than the mount."""
        return next((node for node in self._walk(Folder("")) if self.inode(node) == inode), None)

    def links(self, file: ImageFile) -> int:
        """Return how many names the rules give `file` in the folders that are shown, 1 at least."""
        shown = (path.partition("/")[0] in self._views for path in _candidates(file, self._entries))
        return max(1, sum(shown))

    def paths(self, file: ImageFile) -> list[str]:
        """Return every path of the mount that leads to `file`: its hard links."""
        return [path for path in _candidates(file, self._entries) if self.at(path) == file]

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What the source holds, or seems to hold, that is not served, apart from refused images."""
        return self._catalog.left_out

    def problems(self) -> Iterator[VdifsError]:
        """Yield why names are not offered; a UsageError where the disk is none for that view."""
        for section in (*self._views, *self._sidecars):
            yield from self._section(section).problems
        for base in self._entries if names.DELTA in self._views else ():
            yield from self._build_base(base, ()).problems

    def _needed(self, folder: Folder) -> str | None:
        """Return the section whose images are looked at with a folder, None if none are."""
        return None if folder.path in ("", names.CONTROL) else self._section_of(folder.path)

    def _walk(self, folder: Folder) -> Iterator[Node]:
        yield folder
        for node in (self.children(folder) or {}).values():
            if isinstance(node, Folder):
                yield from self._walk(node)
            else:
                yield node

    def _section_of(self, path: str) -> str:
        """Return the section that a folder of the mount lies in."""
        return "/".join(path.split("/")[: 2 if path.startswith(f"{names.CONTROL}/") else 1])

    def _section(self, section: str) -> Subtree:
        if section not in self._sections:
            self._sections[section] = self._build_section(section)
        return self._sections[section]

    def _build_section(self, section: str) -> Subtree:
        subtree = Subtree(Folder(section), self._entries, self._shut)
        match section:
            case names.FULL:
                whole = [path for path, entry in self._entries.items() if entry.format == names.FLATTENED]
                derived = [path for path, entry in self._entries.items() if entry.format != names.FLATTENED]
                for path in whole + derived:
                    subtree.put(names.flattened(path, self._entries[path].format), ImageFile(path))
            case names.DELTA:
                for path in self._entries:
                    subtree.put(path, Folder(f"{section}/{path}", path))
            case _ if (view := names.CONTENTS.get(section)) is not None:
                for path, entry in self._entries.items():
                    subtree.put_if_held(
                        names.guest_contents(path, view), ImageFile(path, view=view), entry.virtual_size
                    )
            case _:
                for path in self._entries:
                    subtree.put(names.sidecar(path), Sidecar(self._sidecars[section], path))
        return subtree.sorted()

    def _base(self, base: str) -> Subtree | None:
        subtree: Subtree | None = self._bases.get(base)
        if subtree is None and base in self._entries:
            subtree = self._bases[base] = self._build_base(base, self._relatives.later(base))
        return subtree

    def _build_base(self, base: str, later: Iterable[str]) -> Subtree:
        """Return what stands in `delta/BASE`. later: the later states of its file, of which there may be very many."""
        shut = self._shut if len(self._shut) <= _FEW else ()  # images are many, and each has such a folder
        overlays = *self._catalog.overlays(base), *later
        subtree = Subtree(Folder(f"{names.DELTA}/{base}", base), [base, *overlays], shut)
        called = _in_delta(self._entries[base])
        subtree.put(called, _base_entry(self._entries[base]))
        for path in overlays:
            overlay = _in_delta(self._entries[path])
            subtree.put(overlay, ImageFile(path, base), names.delta_backing_name(overlay, called))
        subtree.put(names.base_against_itself(called), ImageFile(base, base), names.delta_backing_name(called, called))
        return subtree.sorted()


def _in_delta(entry: Entry) -> str:
    return names.in_delta(entry.path, entry.format)


def _base_entry(entry: Entry) -> ImageFile:
    """Return the base beside its deltas: the full image, or for a raw base its contents."""
    return ImageFile(entry.path, view=names.base_view(entry.format))


def _candidates(file: ImageFile, entries: Mapping[str, Entry]) -> Iterable[str]:
    """Yield the paths that the rules of docs/specification.md 2.1 give `file`, taken or not."""
    entry = entries.get(file.path)
    if entry is None:
        return
    if file.base is not None:
        called = _in_delta(entry)
        own = file.base == file.path
        yield posixpath.join(names.DELTA, file.base, names.base_against_itself(called) if own else called)
        return
    if file.view == names.FLATTENED:
        yield posixpath.join(names.FULL, names.flattened(file.path, entry.format))
    else:
        yield posixpath.join(file.view, names.guest_contents(file.path, file.view))
    if file.view == names.base_view(entry.format):
        yield posixpath.join(names.DELTA, file.path, _in_delta(entry))
