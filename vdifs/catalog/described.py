"""What is known of an image with its whole chain, without opening it: one value, made of one look at the chain."""

import hashlib
from typing import NamedTuple

from vdifs.catalog.entry import Entry
from vdifs.chain.access import Access
from vdifs.errors import VdifsError

__all__ = ["Described", "of_broken", "of_chain"]


class Described(NamedTuple):
    """An image and its ancestors, top first; of one whose chain cannot be opened itself alone, if it is there.

    access: mode, owner and group of what is made of it (docs/specification.md 5.6); no rights if it cannot be opened.
    generation: digest of what determines its contents: itself, and what the files of its chain are. It is the same
    wherever their file systems are mounted, and in a snapshot of them: numbers of devices are not in it, nor are the
    PATHs of ancestors, of which those in trusted directories say where these are mounted. Of an image that cannot be
    opened it tells its own file and the kind of its problem.
    problem: why it cannot be opened, as far as headers tell.
    """

    chain: tuple[Entry, ...]
    access: Access
    generation: bytes
    problem: VdifsError | None = None


def of_chain(path: str, chain: tuple[Entry, ...], access: Access) -> Described:
    """Describe the image PATH, whose chain can be opened as far as headers tell."""
    return Described(chain, access, _digest(path, [(entry.format, *_anywhere(entry)) for entry in chain]))


def of_broken(path: str, entry: Entry | None, problem: VdifsError) -> Described:
    """Describe the image PATH, which cannot be opened. entry: None if there is none."""
    kind = type(problem).__name__, problem.errno
    if entry is None:
        return Described((), Access(0, 0, 0), _digest(path, [kind]), problem)
    return Described((entry,), Access(0, entry.uid, entry.gid), _digest(path, [(*kind, *_anywhere(entry))]), problem)


def _anywhere(entry: Entry) -> list[tuple[int, ...]]:
    """Return what the files of an image are, wherever their file systems are mounted."""
    return [each.anywhere for each in entry.fingerprints]


def _digest(path: str, known: list[tuple[object, ...]]) -> bytes:
    return hashlib.sha256(repr((path, known)).encode("utf-8", "surrogateescape")).digest()
