"""May this file, named by that image, be opened? The only module that resolves names.

Names inside an image are an attack until shown otherwise. A file is opened only beneath the source root or a trusted
directory, through no symbolic link, by no protocol. Inside vdifs a file is called by its PATH (docs/specification.md
2.1): relative to the source root, or `@trust/` and the absolute path without its leading slash.
"""

import errno
import os
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from types import TracebackType
from typing import Literal, Self

from vdifs.chain.roots import Root
from vdifs.errors import PolicyError, StorageError, printable, quoted
from vdifs.linux.beneath import open_beneath
from vdifs.storage.host_file import HostFile

__all__ = ["MAX_DEPTH", "TRUST_PREFIX", "Live", "Policy"]

MAX_DEPTH = 256
"""So many images a chain may have."""
TRUST_PREFIX = "@trust/"
Live = Literal["refuse", "allow"]
"""What to do with an image that a virtual machine is writing."""
_MOST_BESIDE = 1 << 16
_DETOUR = re.compile(r"(?:^|/)(?!\.\.?/)[^/]+/+(?:\./+)*\.\.(?:/|$)")
"""A `..` behind a folder's name: `a/../b` is `b` only if `a` is no link."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Policy:
    """The source root and the trusted directories, held open. A context manager."""

    def __init__(
        self, root: str, trusted: Sequence[str] = (), *, typed_links: Iterable[str] = (), live: Live = "refuse"
    ) -> None:
        """Open the directories; `typed_links` are names in `root` that the user typed and that may be links.

        Raises StorageError for a directory that cannot be opened.
        """
        self.live = live
        self._typed_links = frozenset(typed_links)
        with ExitStack() as stack:
            self._root = self._opened(root, stack)
            self._trusted = tuple(self._opened(directory, stack) for directory in trusted)
            self._stack = stack.pop_all()
        self.root = self._root.typed
        self._aliases: Mapping[str, str] = {}
        self._parents: Mapping[str, str] = {}

    @classmethod
    def for_image(cls, path: str, trusted: Sequence[str] = (), *, live: Live = "refuse") -> tuple[Self, str]:
        """Return the policy for an image the user typed, its folder being the root, and the image's PATH.

        The image itself may be a symbolic link; names inside it resolve against the folder it was typed in, as in QEMU.
        """
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.isdir(path):
            raise StorageError("is a directory", where=path, remedy="name an image in it", errno=errno.EINVAL)
        links = [name] if os.path.islink(path) else []
        return cls(folder or ".", trusted, typed_links=links, live=live), name

    @property
    def root_names(self) -> tuple[str, str]:
        """The absolute path of the source root, as typed and with links resolved."""
        return self._root.typed, self._root.resolved

    @staticmethod
    def _opened(directory: str, stack: ExitStack) -> Root:
        root = Root.open(directory)
        stack.callback(root.close)
        return root

    def close(self) -> None:
        """Close the directories."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def place(self) -> Root:
        """The source root."""
        return self._root

    def look_again(self) -> dict[str, StorageError]:
        """Go over to the folders that the names of the directories lead to now; return why it cannot be done, by PATH.

        The PATH of the source root is empty. `settle` must follow. May block.
        """
        found = {path: root.look_again() for path, root in self.roots().items()}
        return {path: trouble for path, trouble in found.items() if trouble is not None}

    def settle(self, troubles: Collection[str]) -> None:
        """Stay with the folders that were gone over to, but for those that are in trouble, or in which something is."""
        for path, root in self.roots().items():
            stay = path not in troubles and not (path and any(each.startswith(f"{path}/") for each in troubles))
            root.settle(stay=stay)

    def roots(self) -> dict[str, Root]:
        """Return the source root, whose PATH is empty, and the trusted directories, by PATH."""
        return {"": self._root} | {TRUST_PREFIX + root.typed.lstrip("/"): root for root in self._trusted}

    def name_alike(self, aliases: Mapping[str, str]) -> None:
        """Take note of PATHs beneath trusted directories that lead into SOURCE, by a bind mount: and to what PATH."""
        self._aliases = aliases

    def usual(self, path: str) -> str:
        """Return the PATH by which a file is known that PATH, as `resolve` gives it, leads to."""
        return self._aliases.get(path, path)

    def know_parents(self, parents: Mapping[str, str]) -> None:
        """Take note of the PATHs of parents that a search found, by the PATHs of the images that do not name them."""
        self._parents = parents

    def known_parent(self, path: str) -> str | None:
        """Return the PATH of the parent of the image PATH, None if no search found it."""
        return self._parents.get(path)

    def names_beside(self, path: str) -> list[str]:
        """Return the names in the folder that PATH lies in; none of a folder that cannot be read or holds very many."""
        try:
            root, below = self._find(path)
            folder = open_beneath(root.fd, posixpath.dirname(below) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, PolicyError):
            return []
        try:
            with os.scandir(folder) as listing:
                names = [each.name for each in islice(listing, _MOST_BESIDE + 1)]
        except OSError:
            return []
        finally:
            os.close(folder)
        return names if len(names) <= _MOST_BESIDE else []

    def display(self, path: str) -> str:
        """Return the host path of PATH, for messages."""
        if path.startswith(TRUST_PREFIX):
            return path[len(TRUST_PREFIX) - 1 :]
        return posixpath.join(self.root, path)

    def open(self, path: str) -> HostFile:
        """Open the file called PATH. Raises PolicyError, StorageError."""
        if path in self._typed_links:
            return HostFile.open(self.display(path), lambda flags: os.open(self.display(path), flags))
        root, below = self._find(path)
        return HostFile.open(self.display(path), lambda flags: open_beneath(root.fd, below, flags))

    def is_there(self, path: str) -> bool:
        """Tell whether anything but a link lies at PATH."""
        try:
            root, below = self._find(path)
            os.close(open_beneath(root.fd, below, os.O_PATH | os.O_CLOEXEC))
        except (OSError, PolicyError):
            return False
        return True

    def resolve(self, overlay: str, name: str) -> str:
        """Return the PATH of the file that the image with PATH `overlay` calls `name`.

        A relative name resolves against the overlay's own folder. Raises PolicyError for a protocol, for control
        characters, and for what is not beneath a trusted directory.
        """
        self._check_name(overlay, name)
        if not name.startswith("/"):
            inner = _normal(posixpath.join(posixpath.dirname(overlay), name))
            if not overlay.startswith(TRUST_PREFIX):
                if inner is not None:
                    return self._checked(overlay, inner)
                name = posixpath.join(self._root.resolved, posixpath.dirname(overlay), name)
            else:
                name = posixpath.join("/", posixpath.dirname(overlay)[len(TRUST_PREFIX) :], name)
        absolute = posixpath.normpath("/" + name.lstrip("/"))
        if (below := self._root.below(absolute)) is not None:
            return self._checked(overlay, below)
        for root in self._trusted:
            if (below := root.below(absolute)) is not None:
                # A file beneath the source root has one PATH, whatever link or folder above led to it.
                within = self._root.below(posixpath.join(root.resolved, below))
                if within is not None:
                    return self._checked(overlay, within)
                return TRUST_PREFIX + posixpath.join(root.typed, below).lstrip("/")
        raise PolicyError(
            f"it names {quoted(absolute)}, which is not beneath a trusted directory",
            where=self.display(overlay),
            remedy=f"allow it with --trust {printable(posixpath.dirname(absolute))}",
            about=("untrusted", absolute),
        )

    def _checked(self, overlay: str, path: str) -> str:
        """Return `path`, which leads to a file in the source root, unless it looks like one that does not."""
        if path.startswith(TRUST_PREFIX):
            what = f"it names a file in a folder called {TRUST_PREFIX!r}, which stands for trusted directories"
            raise PolicyError(what, where=self.display(overlay), remedy="rename the folder")
        return path

    def _check_name(self, overlay: str, name: str) -> None:
        if _CONTROL.search(name):
            what, remedy = ", with a control character in it", "rename the file and rebase the image"
        elif _DETOUR.search(name) and not self._is_plain_folder(overlay, posixpath.dirname(name)):
            what, remedy = ": its '..' follows what is no folder beneath the source", "rebase it on a plain name"
        elif ":" in name.split("/", 1)[0]:
            what, remedy = ", a protocol", "only files are followed; rebase the image on a file"
        else:
            return
        raise PolicyError(f"it names {quoted(name)}{what}", where=self.display(overlay), remedy=remedy)

    def _is_plain_folder(self, overlay: str, folder: str) -> bool:
        """Tell whether `folder`, as an image names it, is reached beneath the source root, and through no link."""
        if folder.startswith("/"):
            path = self._root.below(folder)
        else:
            path = None if overlay.startswith(TRUST_PREFIX) else posixpath.join(posixpath.dirname(overlay), folder)
        if path is None:
            return False
        try:
            os.close(open_beneath(self._root.fd, path or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def _find(self, path: str) -> tuple[Root, str]:
        if not path.startswith(TRUST_PREFIX):
            return self._root, path
        absolute = path[len(TRUST_PREFIX) - 1 :]
        for root in self._trusted:
            if (below := root.below(absolute)) is not None:
                return root, below
        remedy = f"allow it with --trust {printable(posixpath.dirname(absolute))}"
        raise PolicyError("not beneath a trusted directory", where=absolute, remedy=remedy)


def _normal(path: str) -> str | None:
    """Return the relative `path` without `.` and `..`, None where it leads above its start."""
    normal = posixpath.normpath(path)
    return None if normal == ".." or normal.startswith("../") else normal
