"""Inode numbers: which number a node has, and which nodes the kernel knows.

A number is a hash of what determines the file, so it is the same after a remount and another once the sources change.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from vdifs.errors import VdifsError
from vdifs.mount.view.attributes import Facts
from vdifs.mount.view.nodes import Folder, Node

__all__ = ["ROOT", "InodeTable", "KnownInode", "inode_number"]

ROOT: Final = 1
"""FUSE's number of the root."""


def inode_number(*parts: str | bytes) -> int:
    """Return the number for what `parts` identify: 2 to 2**63 - 1, so that it is positive in any program."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(4, "big") + data)
    return max(int.from_bytes(digest.digest(), "big") >> 1, ROOT + 1)


@dataclass(slots=True)
class KeptThrough:
    """What is known of a number that was kept through a change: the numbers of states, None for its own.

    facts_of: of which the facts were last found to be true. pages_of: of which the kernel may have pages.
    """

    facts_of: int | None = None
    pages_of: int | None = None


@dataclass(slots=True)
class KnownInode:
    """An inode that the kernel holds. lookups: how often it was handed out and not yet forgotten.

    facts: of a file that was looked into; the kernel has its size then, and must be given no placeholder again.
    kept: None for one that was never kept through a change, as most: there may be very many.
    """

    node: Node
    lookups: int = 0
    facts: Facts | None = None
    kept: KeptThrough | None = None

    @property
    def facts_of(self) -> int | None:
        """See KeptThrough."""
        return None if self.kept is None else self.kept.facts_of

    @facts_of.setter
    def facts_of(self, state: int | None) -> None:
        if self.kept is not None or state is not None:
            self.kept = replace(self.kept or KeptThrough(), facts_of=state)

    @property
    def pages_of(self) -> int | None:
        """See KeptThrough."""
        return None if self.kept is None else self.kept.pages_of

    @pages_of.setter
    def pages_of(self, state: int | None) -> None:
        if self.kept is not None or state is not None:
            self.kept = replace(self.kept or KeptThrough(), pages_of=state)


class InodeTable:
    """The inodes that the kernel holds. It shrinks when the kernel forgets them."""

    def __init__(self) -> None:
        self._known = {ROOT: KnownInode(Folder(""), 1)}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, inode: int) -> KnownInode | None:
        """Return what is known of that number, None if the kernel was not given it, or has forgotten it."""
        return self._known.get(inode)

    def hand_out(self, inode: int, node: Node) -> None:
        """Count one more time that the kernel is given `inode`. Raises VdifsError if it stands for another node."""
        known = self._known.get(inode)
        if known is None:
            known = self._known[inode] = KnownInode(node)
        elif known.node != node:
            raise VdifsError(f"{node}: has the same inode number {inode:#x} as {known.node}: rename one of the images")
        known.lookups += 1

    def forget(self, inode: int, count: int) -> None:
        """Count `count` times less."""
        known = self._known.get(inode)
        if known is None or inode == ROOT:
            return
        known.lookups -= count
        if known.lookups <= 0:
            del self._known[inode]
