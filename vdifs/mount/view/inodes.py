"""Inode numbers: which number a node has, and which nodes the kernel knows.

A number is a hash of what determines the file, so it is the same after a remount and another once the sources change.
"""

import errno
import hashlib
from dataclasses import dataclass, replace
from typing import Final

from cachetools import LRUCache

from vdifs.errors import VdifsError
from vdifs.mount.view.attributes import FileSize
from vdifs.mount.view.nodes import Folder, Node

__all__ = ["ROOT", "InodeTable", "KnownInode", "StaleInodeError", "inode_number"]

ROOT: Final = 1
"""FUSE's number of the root."""
_SIZES_SHARED = 256


class StaleInodeError(VdifsError):
    """An inode number stands for a state of the sources that has passed. The kernel looks the name up again."""

    errno = errno.ESTALE
    remedy = "look its name up again"


def inode_number(*parts: str | bytes) -> int:
    """Return the number for what `parts` identify: 2 to 2**63 - 1, so that it is positive in any program."""
    whole = b""
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        whole += len(data).to_bytes(4, "big") + data
    return max(int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big") >> 1, ROOT + 1)


@dataclass(slots=True)
class KeptInode:
    """What is known of a number that was kept through a change: the numbers of states, None for its own.

    size_state: of which the size was last found to be true. pages_state: of which the kernel may have pages.
    """

    size_state: int | None = None
    pages_state: int | None = None


@dataclass(slots=True)
class KnownInode:
    """An inode that the kernel holds. lookups: how often it was handed out and not yet forgotten.

    file_size: of a file that was looked into; the kernel has it then, and must be given no placeholder again.
    kept: None for one that was never kept through a change, as most: there may be very many.
    """

    node: Node
    lookups: int = 0
    file_size: FileSize | None = None
    kept: KeptInode | None = None

    @property
    def size_state(self) -> int | None:
        """See KeptInode."""
        return None if self.kept is None else self.kept.size_state

    @size_state.setter
    def size_state(self, state: int | None) -> None:
        if self.kept is not None or state is not None:
            self.kept = replace(self.kept or KeptInode(), size_state=state)

    @property
    def pages_state(self) -> int | None:
        """See KeptInode."""
        return None if self.kept is None else self.kept.pages_state

    @pages_state.setter
    def pages_state(self, state: int | None) -> None:
        if self.kept is not None or state is not None:
            self.kept = replace(self.kept or KeptInode(), pages_state=state)


class InodeTable:
    """The inodes that the kernel holds. It shrinks when the kernel forgets them."""

    def __init__(self) -> None:
        self._known = {ROOT: KnownInode(Folder(""), 1)}
        self._sizes: LRUCache[FileSize, FileSize] = LRUCache(_SIZES_SHARED)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, inode: int) -> KnownInode | None:
        """Return what is known of that number, None if the kernel was not given it, or has forgotten it."""
        return self._known.get(inode)

    def shared(self, size: FileSize) -> FileSize:
        """Return the same object for equal sizes: very many snapshots may be of one size."""
        return self._sizes.setdefault(size, size)

    def hand_out(self, inode: int, node: Node) -> None:
        """Count one more time that the kernel is given `inode`. Raises VdifsError if it stands for another node."""
        known = self._known.get(inode)
        if known is None:
            known = self._known[inode] = KnownInode(node)
        elif known.node != node:
            what = f"has the same inode number {inode:#x} as {known.node}"
            raise VdifsError(what, where=str(node), remedy="rename one of the images")
        known.lookups += 1

    def forget(self, inode: int, count: int) -> None:
        """Count `count` times less."""
        known = self._known.get(inode)
        if known is None or inode == ROOT:
            return
        known.lookups -= count
        if known.lookups <= 0:
            del self._known[inode]
