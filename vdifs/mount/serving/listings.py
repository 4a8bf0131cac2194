"""Open folders: each shows one state from beginning to end, even if it changes meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, count

from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.view.attributes import Attributes
from vdifs.mount.view.inodes import StaleInodeError
from vdifs.mount.view.nodes import Node

__all__ = ["Listings"]

_DOTS = (".", "..")


@dataclass(slots=True)
class _Listing:
    inode: int
    entries: list[tuple[str, Node]] = field(default_factory=list)


class Listings:
    """Open folders by the number that the kernel calls them. A position counts the entries before it."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._numbers = count(1)
        self._open: dict[int, _Listing] = {}

    def open(self, inode: int) -> int:
        """Return the number of a folder that is open now. Raises StaleInodeError."""
        self._namespace.node(inode)
        number = next(self._numbers)
        self._open[number] = _Listing(inode)
        return number

    async def read(self, number: int, start: int) -> Iterator[tuple[int, str, Attributes]]:
        """Return the entries from `start` on, each with the position after it. From 0: the folder as it is now.

        Raises, at the end of the entries, why it cannot be told what the folder holds: those are what it held.
        """
        listing = self._open[number]
        if start == 0:
            listing.entries = await self._namespace.listing(listing.inode)
            return self._attributed(listing, start)
        found = self._attributed(listing, start)
        first = next(found, None)
        if first is None:
            self._namespace.check_known(listing.inode)
            return found
        return chain([first], found)

    def handed_out(self, number: int, position: int, inode: int) -> None:
        """Take note that the kernel took the entry before `position`, which had that inode number."""
        name, node = self._open[number].entries[position - 1]
        if name not in _DOTS:
            self._namespace.told(inode, node)

    def release(self, number: int) -> None:
        """Close an open folder."""
        del self._open[number]

    def _attributed(self, listing: _Listing, start: int) -> Iterator[tuple[int, str, Attributes]]:
        for index in range(start, len(listing.entries)):
            name, node = listing.entries[index]
            try:
                yield index + 1, name, self._namespace.peek(node)
            except StaleInodeError:
                continue  # removed since the listing began
