"""One search of a source: the files that it holds now, and the folders of which that cannot be told, and why.

The server is gone, the disk fails, a folder may not be read any more, SOURCE was replaced by a folder that the rules
of Landlock do not cover.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vdifs.catalog.sniff import find
from vdifs.catalog.walk import Filter, Found, Identity, Passed, Seen, vdifs_mounts, walk
from vdifs.chain.policy import Policy
from vdifs.errors import StorageError, VdifsError

__all__ = ["Search", "search"]

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing of the source: the daemon itself has too little."""
_READABLE = "make it readable for this user (or have 'vdifs mount --exclude' leave it out)"
_REMEDIES = {
    errno.EACCES: _READABLE,
    errno.EPERM: _READABLE,
}


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found. files: by path, without what is in `troubles`. folders: those that were looked into.

    troubles: the folders that cannot be looked into, by PATH, empty for the source root, and why. kept: PATHs at and
    below which everything stays as it was: those, and what this process was too short of something to look at. shut:
    PATHs in `troubles` that are known to be folders.
    passed: links and the like. nothing: why nothing at all can be told.
    """

    files: Mapping[str, Found] = field(default_factory=dict)
    folders: Mapping[str, Identity] = field(default_factory=dict)
    troubles: Mapping[str, VdifsError] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()
    passed: Passed = field(default_factory=lambda: Passed(""))
    nothing: VdifsError | None = None


def search(
    policy: Policy,
    only: str | None,
    wanted: Filter,
    skip: frozenset[str],
    known: Callable[[str], Found | None],
) -> Search:
    """Search the source root of `policy`, or just for the file `only` in it. The other arguments are those of `walk`.

    Before it, the policy goes over to the folders that its names lead to now. May block.
    """
    troubles: dict[str, VdifsError] = dict(policy.look_again())
    if (trouble := troubles.get("")) is not None:
        return Search(troubles=troubles, kept=frozenset({""}), nothing=trouble)
    if only is not None:
        return _single(policy, only, troubles)
    seen, passed = Seen(), Passed(policy.place.resolved)
    files = {found.path: found for found in walk(policy.place, wanted, skip | vdifs_mounts(), seen, known, passed)}
    lost = {path: _trouble(policy, path, error) for path, error in seen.lost.items()}
    troubles |= {path: trouble for path, trouble in lost.items() if seen.lost[path].errno not in _OURS}
    kept, shut = frozenset({*troubles, *lost}), frozenset(seen.shut & troubles.keys() - {""})
    return Search(files, seen.folders, troubles, kept, shut, passed, lost.get(""))


def _single(policy: Policy, only: str, troubles: dict[str, VdifsError]) -> Search:
    try:
        return Search({only: find(policy, only)}, {}, troubles, frozenset(troubles))
    except VdifsError as error:
        trouble = error.told_as(StorageError, errno=errno.EIO)
        if error.errno not in _OURS:
            troubles[""] = trouble
        return Search({}, {}, troubles, frozenset({*troubles, ""}), nothing=trouble)


def _trouble(policy: Policy, path: str, error: OSError) -> StorageError:
    remedy = _REMEDIES.get(error.errno or 0, "check the disk or server below it")
    where = policy.display(path) if path else policy.root
    what = f"it cannot be searched: {error.strerror or error}"
    return StorageError(what, where=where, remedy=remedy, errno=errno.EIO)
