"""Who may read what is made of listed images: those whom their files and the folders above allow.

The rule is in docs/specification.md 5.6.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vdifs.catalog.entry import Entry
from vdifs.catalog.troubles import is_within
from vdifs.chain.access import Access, Permission, folders_above, intersection, to_folder
from vdifs.chain.policy import TRUST_PREFIX, Policy
from vdifs.errors import VdifsError

__all__ = ["Above", "Readers", "permissions_above"]

Above = Mapping[str, tuple[Permission, ...]]
"""The permissions of the folders from `/` down to the source root, and to those of files in trusted directories."""
_NO_USER = (Permission(0, 0, 0),)


@dataclass(frozen=True, slots=True)
class Readers:
    """Who may read what is made of `entries`. above: the folders above those."""

    policy: Policy
    entries: Mapping[str, Entry]
    above: Above

    def of_chain(self, chain: Sequence[Entry]) -> Access:
        """Return mode, owner and group for the synthetic files of an image. chain: its entries, top first."""
        items: list[Permission] = []
        for entry in chain:
            items += entry.permissions
            items += self._above(entry.path)
            for data in entry.data:
                items += data.permissions
                items += self._above(data.path)
        allowed = intersection(items, chain[0].uid, chain[0].gid)
        return allowed._replace(mode=allowed.mode | chain[0].permissions[0].write)

    def of_folders(self, places: Iterable[tuple[str, int]]) -> Access:
        """Return mode, owner and group for a folder of the mount that stands for `places`, folders of the source.

        Each is the PATH of an image somewhere in it, and how many folders of PATH lead there; none for the root.
        """
        return to_folder([self._down_to(*place) for place in places] or [self._root()])

    def of_all(self) -> Access:
        """Return mode, owner and group for what tells of all images: who may list every folder that they lie in."""
        root = self._root()
        items = {each for above in self.above.values() for each in (*above, above[-1].to_list)}
        below = {each for entry in self.entries.values() for each in entry.permissions[1:]}
        return intersection([*items, *below, *(each.to_list for each in below)], root[-1].uid, root[-1].gid)

    def _root(self) -> tuple[Permission, ...]:
        return self.above.get(self.policy.root, _NO_USER)

    def _above(self, path: str) -> tuple[Permission, ...]:
        return self.above.get(_folder_of(self.policy, path), _NO_USER)

    def _down_to(self, path: str, depth: int) -> tuple[Permission, ...]:
        """Return the permissions from `/` down to the folder that the first `depth` folders of PATH lead to."""
        if not depth:
            return self._root()
        if (entry := self.entries.get(path)) is None:
            return _NO_USER
        if not path.startswith(TRUST_PREFIX):
            return (*self._root(), *entry.permissions[:0:-1][:depth])
        above = self._above(path)
        # `@trust` stands for `/`; behind a symbolic link there are other folders, all of which count then.
        return above[:depth] if len(above) == entry.file_path.count("/") else above


def permissions_above(
    policy: Policy, before: Above, entries: Mapping[str, Entry], troubles: Mapping[str, VdifsError]
) -> Above:
    """Return the permissions of the folders above `entries`; of a place in trouble those that it had before."""
    found: dict[str, tuple[Permission, ...]] = {}
    for folder, path in {policy.root: "", **_folders_of(policy, entries)}.items():
        known = before.get(folder) if is_within(path, troubles) is not None else None
        found[folder] = _of_folder(folder) if known is None else known
    return found


def _folders_of(policy: Policy, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Return the folders in trusted directories that hold files of `entries`, each with the PATH of one of them."""
    data = (each.path for entry in entries.values() for each in entry.data)
    seen = (path for path, entry in entries.items() if entry.fingerprint.ino)
    return {_folder_of(policy, path): path for path in (*seen, *data) if path.startswith(TRUST_PREFIX)}


def _folder_of(policy: Policy, path: str) -> str:
    """Return the source root for a file in it, for one beneath a trusted directory its folder."""
    return os.path.dirname(policy.display(path)) if path.startswith(TRUST_PREFIX) else policy.root


def _of_folder(folder: str) -> tuple[Permission, ...]:
    """Return the permissions of a folder and of all above it; those of no user, if it has gone."""
    try:
        return folders_above(folder)
    except OSError:
        return _NO_USER
