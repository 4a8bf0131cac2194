"""The image below one that knows it by identity: which of the files that may be it has that identity.

    names    tried in order, beneath the source alone; then, of those that are not there, the one file that differs in
             the case of its letters
    no names    all files of the source are looked at, nearest first

The first file that has a wanted identity is it. Where none has, the image is refused: nothing else takes its place.
See docs/formats.md, Parents.
"""

import errno
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, PolicyError, SourceChangedError, VdifsError, printable, quoted
from vdifs.formats.image_format import Parent
from vdifs.formats.registry import FORMATS

__all__ = ["Fit", "Look", "find_parent", "fits", "is_known_by_identity", "named_paths", "nearest_first"]

_T = TypeVar("_T")
_MOST_NAMES = 32
_MOST_TOLD = 6
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_REMEDY = "put the image that has that identity where it was, or beside this one, or name its folder with --trust"


class Fit(NamedTuple, Generic[_T]):
    """A file that may be the parent. file: device and inode number. found: what the caller made of it.

    identities: all that it has.
    """

    file: tuple[int, int]
    identities: frozenset[str]
    found: _T


Look = Callable[[str], Fit[_T] | None]
"""Looks at the file PATH; returns None if it is not the parent. Raises VdifsError if it cannot tell."""


def is_known_by_identity(parent: Parent) -> bool:
    """Tell whether the parent has an identity: a raw one has none, and is the first file of a name that is there."""
    return not FORMATS[parent.format].unmarked


def fits(parent: Parent, identities: frozenset[str]) -> bool:
    """Tell whether a file with these identities is the parent, any file where that has none.

    Raises ChainError for one that has what is wanted, and is not the parent all the same.
    """
    if not is_known_by_identity(parent) or not parent.identities.isdisjoint(identities):
        return True
    if parent.near_miss is not None and (why := parent.near_miss(parent.identities, identities)) is not None:
        raise ChainError(why, remedy="restore the parent that the image names")
    return False


def named_paths(policy: Policy, path: str, parent: Parent) -> list[tuple[str, str | None]]:
    """Return the names that the image PATH tells of its parent, in order, each with the PATH that it leads to.

    None for a name that leads out of the source, or nowhere: it is never looked up.
    """
    found: dict[str, str | None] = {}
    for name in parent.names[:_MOST_NAMES]:
        try:
            # `./`: what stands before a `:` is no protocol here.
            found[name] = None if not name or name.startswith("/") else policy.resolve(path, f"./{name}")
        except PolicyError:
            found[name] = None
    return list(found.items())


def find_parent(
    policy: Policy,
    path: str,
    parent: Parent,
    look: Look[_T],
    *,
    among: Callable[[], Sequence[str]],
    beside: Callable[[str], Sequence[str]],
) -> tuple[str, _T]:
    """Return the PATH of the parent of the image PATH, and what `look` found there.

    among: returns the PATHs of all files that may be it if it has no names. beside: returns the names in the folder
    that a PATH lies in. Raises ChainError, which says what was tried, if no file is it.
    """
    search = _Search(look)
    if parent.names:
        found = _by_name(named_paths(policy, path, parent), parent, search, beside)
    else:
        found = _by_identity(path, among(), parent, search) if is_known_by_identity(parent) else None
    if found is None:
        raise search.refusal(policy.display(path), parent)
    return found


def nearest_first(path: str, others: Iterable[str]) -> list[str]:
    """Return the PATHs `others`, those in the folder of PATH first, then by how far their folders are from it."""
    return sorted(others, key=lambda other: (*_distance(path, other), other))


class _Search(Generic[_T]):
    """What was tried so far. look: as of `find_parent`."""

    def __init__(self, look: Look[_T]) -> None:
        self.tried: list[str] = []
        self.absent: list[str] = []
        self._look = look
        self._failures: list[VdifsError] = []
        self._why: str | None = None
        self._remedy = _REMEDY

    def at(self, path: str) -> Fit[_T] | None:
        """Return what fits at PATH, None if nothing does, which is taken note of."""
        try:
            fit = self._look(path)
        except SourceChangedError:
            raise
        except VdifsError as error:
            if error.errno in _ABSENT:
                self.absent.append(path)
                self.tried.append(f"{printable(path)} (it is not there)")
            else:
                self._failures.append(error)
                self.tried.append(f"{printable(path)} ({error.what})")
            return None
        if fit is None:
            self.tried.append(f"{printable(path)} (it has another identity)")
        return fit

    def is_ambiguous(self, path: str, other: str) -> None:
        """Take note that two files fit alike."""
        self._why = f"{printable(path)} and {printable(other)} both have its identity"
        self._remedy = "leave the one that is meant in the source alone"

    def refusal(self, where: str, parent: Parent) -> ChainError:
        """Return the error for the image `where`, whose parent is none of the files that were tried."""
        wanted = f" with the identity {' or '.join(sorted(map(printable, parent.identities)))}"
        if not is_known_by_identity(parent):
            wanted = ", a raw image,"
        elif all(each in parent.said for each in parent.identities):  # as in all where there is no other name
            wanted = ""
        why = self._why or (self._told() if parent.names else "no image of the source has it")
        what = f"its parent {quoted(parent.said)}{wanted} is not found: {why}"
        code = errno.EACCES if any(each.errno == errno.EACCES for each in self._failures) else errno.EIO
        error = ChainError(what, where=where, remedy=self._remedy, errno=code)
        error.passing = any(each.passing for each in self._failures)
        error.unreachable = any(each.unreachable for each in self._failures)
        return error

    def _told(self) -> str:
        more = len(self.tried) - _MOST_TOLD
        return f"tried {', '.join([*self.tried[:_MOST_TOLD], *([f'{more} more'] if more > 0 else [])])}"


def _by_name(
    named: Sequence[tuple[str, str | None]], parent: Parent, search: _Search[_T], beside: Callable[[str], Sequence[str]]
) -> tuple[str, _T] | None:
    paths = dict.fromkeys(path for _, path in named if path is not None)
    for candidate in paths:
        if (fit := search.at(candidate)) is not None:
            return candidate, fit.found
        if not is_known_by_identity(parent) and candidate not in search.absent:
            return None  # it is there, and nothing tells whether another file would be the right one
    for candidate in _alike(search.absent, beside):
        if candidate not in paths and (fit := search.at(candidate)) is not None:
            return candidate, fit.found
    search.tried += [f"{printable(name)} (it leads out of the source)" for name, path in named if path is None]
    return None


def _alike(absent: Sequence[str], beside: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """Yield for each PATH that is not there the one file in its folder whose name differs in case alone."""
    for path in list(absent):
        folder, name = posixpath.split(path)
        alike = [each for each in beside(path) if each.lower() == name.lower()]
        if len(alike) == 1:
            yield posixpath.join(folder, alike[0])


def _by_identity(path: str, others: Iterable[str], parent: Parent, search: _Search[_T]) -> tuple[str, _T] | None:
    """Return the nearest file that fits.

    Of two as near neither is taken, nor of two that may be different disks: nothing tells which of them was meant.
    """
    chosen: tuple[str, Fit[_T]] | None = None
    for other in nearest_first(path, others):
        is_as_near = chosen is None or _distance(path, other) == _distance(path, chosen[0])
        if not is_as_near and parent.tells_state:
            break
        if (fit := search.at(other)) is None:
            continue
        is_another = chosen is not None and fit.file != chosen[1].file
        if chosen is not None and is_another and (is_as_near or fit.identities != chosen[1].identities):
            search.is_ambiguous(chosen[0], other)
            return None
        chosen = chosen or (other, fit)
    return None if chosen is None else (chosen[0], chosen[1].found)


def _distance(path: str, other: str) -> tuple[int, int]:
    """Return how many folders lie between that of PATH and the common one, and from there to that of `other`."""
    own, its = path.split("/")[:-1], other.split("/")[:-1]
    common = 0
    while common < min(len(own), len(its)) and own[common] == its[common]:
        common += 1
    return len(own) - common, len(its) - common
