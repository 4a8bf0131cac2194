"""The ancestors that a search does not reach: hidden, excluded, or beneath a trusted directory. They are images too.

What lies in the source and is only named by another way, as a bind mount of it is trusted, is the image that was found
there: a file that is beneath SOURCE is that file, whatever name led to it.
"""

import errno
import os
from collections.abc import Container, Mapping
from dataclasses import replace

from vdifs.catalog.entry import Entry, parent_of
from vdifs.catalog.parents import Parents
from vdifs.catalog.sniff import find, sniff
from vdifs.catalog.still_known import still_known
from vdifs.catalog.troubles import is_within
from vdifs.catalog.walk import Found
from vdifs.chain.policy import TRUST_PREFIX, Policy
from vdifs.errors import PolicyError, StorageError, VdifsError
from vdifs.formats.raw import RAW
from vdifs.formats.registry import FORMATS, USUAL, no_image, says
from vdifs.storage.fingerprint import Fingerprint

__all__ = ["Ancestors"]

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_IMAGE = frozenset({errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG})
"""Errors of a name that leads to a link, a folder or a pipe, or cannot lead to anything."""


_NEVER_SEEN = Fingerprint(0, 0, 0, 0, 0)


class Ancestors:
    """Finds them for one scan. missing: those that cannot be had, by PATH, and why. lost: those that could be, once.

    aliases: PATHs beneath trusted directories that lead to files beneath the source root, and the PATHs of these.
    parents: PATHs of images that name no parent and have one, and the PATHs of these. stated: what files that are
    called raw are in the other formats that overlays state for them, by PATH and format.
    """

    def __init__(
        self,
        policy: Policy,
        walked: Mapping[str, Found],
        before: Mapping[str, Entry],
        troubles: Mapping[str, VdifsError],
        *,
        searched: bool,
        reached: Container[str],
    ) -> None:
        """Have found nothing. walked: the files that the search found. before: the entries of the last scan.

        searched: whether the source was; it is not where it is a single image. reached: the files that the last search
        found, of which what is not there was removed.
        """
        self.missing: dict[str, VdifsError] = {}
        self.lost: dict[str, VdifsError] = {}
        self.aliases: dict[str, str] = {}
        self._policy = policy
        self._walked = walked
        self._before = before
        self._troubles = troubles
        self._searched = searched
        self._reached = reached
        self.parents: Mapping[str, str] = {}
        self.stated: dict[tuple[str, str], Entry] = {}
        self._never_seen: set[str] = set()
        self._identities: dict[tuple[int, int], str] | None = None

    def add_to(self, entries: dict[str, Entry]) -> None:
        """Add to `entries` the backing files that are not among them, and to those what parents they have."""
        parents = Parents(self._policy, entries, self._candidate, searched=self._searched)
        waiting = list(entries.values())
        nameless: list[Entry] = []
        while waiting or nameless:
            overlay = (waiting or nameless).pop()
            if (parent := parent_of(overlay)) is not None:
                if not parent.names and waiting:
                    nameless.append(overlay)  # all images that have names must be known for them
                    continue
                entries[overlay.path], added = parents.settled(overlay, parent)
                if added is not None:
                    waiting.append(added)
                continue
            path = overlay.backing_path
            if path is not None and path in entries:
                waiting += self._as_stated(entries[path], overlay, parents)
            if path is None or path in entries or path in self.missing or self.aliases.get(path) in entries:
                continue
            try:
                added = self._entry(path, overlay)
            except VdifsError as error:
                self.missing[path] = error.bare()
            else:
                if added.path not in entries:
                    entries[added.path] = added
                    waiting.append(added)
        self.parents = parents.nameless
        self._leave_out_hiding(entries)

    def _as_stated(self, known: Entry, overlay: Entry, parents: Parents) -> list[Entry]:
        """Take note of what a file that is called raw is in another format that an overlay states for it.

        Returns the images below that which were not known.
        """
        stated = FORMATS.get(overlay.backing_format or "")
        if stated is None or stated.unmarked or stated.name == known.format or says(known.path) != RAW.name:
            return []
        if (known.path, stated.name) in self.stated:
            return []
        try:
            found = find(self._policy, known.path)
        except VdifsError:
            return []  # of the raw image it is told
        for entry in sniff(self._policy, found, stated=stated.name):
            if entry.format == stated.name:
                parent = parent_of(entry)
                settled, added = (entry, None) if parent is None else parents.settled(entry, parent)
                self.stated[known.path, stated.name] = settled
                return [] if added is None else [added]
        return []

    def _leave_out_hiding(self, entries: dict[str, Entry]) -> None:
        """Take from `entries` what was never seen and would have the name of a folder, or in which others would lie.

        The name is an overlay's word: it must not keep what is there from being listed.
        """
        for path in sorted(self._never_seen & entries.keys()):  # of two that hide one another, the same one always
            if is_within(os.path.dirname(path), entries) or any(each.startswith(f"{path}/") for each in entries):
                del entries[path]
                self.missing[path] = self.lost.pop(path)

    def named_alike(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        """Return `entries`, each naming its backing file by the one PATH that this has."""
        if not self.aliases:
            return entries
        renamed = {
            path: replace(entry, backing_path=self.aliases[entry.backing_path])
            for path, entry in entries.items()
            if entry.backing_path in self.aliases
        }
        return {**entries, **renamed}

    def _entry(self, path: str, overlay: Entry) -> Entry:
        """Return the entry of the backing file of `overlay`. Raises VdifsError."""
        try:
            found = find(self._policy, path)
        except VdifsError as error:
            return self._as_it_was(path, overlay, error)
        return self._sniffed(path, found, overlay.backing_format)

    def _candidate(self, path: str, child: Entry, stated: str) -> Entry:
        """Return the entry of what may be the parent of `child`. Raises VdifsError if nothing is there."""
        try:
            found = find(self._policy, path)
        except VdifsError as error:
            before = self._before.get(path)
            if before is None or before.fingerprint == _NEVER_SEEN:
                raise  # a guess; what was never seen is not told of
            return self._as_it_was(path, child, error)
        return self._sniffed(path, found, stated)

    def _sniffed(self, path: str, found: Found, stated: str | None) -> Entry:
        """Return the entry of a file, which is an image. Raises VdifsError if it is none."""
        if path.startswith(TRUST_PREFIX) and (alias := self._by_identity().get(found.fingerprint[:2])) is not None:
            self.aliases[path] = alias
            found = find(self._policy, alias)
        sniffed = sniff(self._policy, found, stated=stated)
        before = self._before.get(path)
        if before is not None and before.fingerprint != _NEVER_SEEN:
            sniffed = still_known((before,), found, sniffed, None, self._policy.display(path))
        if not sniffed:
            raise no_image(self._policy.display(path))
        return sniffed[0]

    def _as_it_was(self, path: str, overlay: Entry, error: VdifsError) -> Entry:
        """Return what is known of an ancestor that cannot be found or read; raise `error` if it may have been removed.

        What lies beneath a trusted directory stays listed as long as an image names it, and so do the ancestors of a
        single image, and those that are hidden or excluded: of a folder there that was unmounted, or emptied, nothing
        else would tell. Of what was never seen, as it was so before the mount began, the name is known.
        """
        before = self._before.get(path)
        searched = self._searched and not path.startswith(TRUST_PREFIX) and is_within(path, self._troubles) is None
        never_seen = before is None or before.fingerprint == _NEVER_SEEN
        removed = error.errno in _ABSENT and path in self._reached
        if isinstance(error, PolicyError) or (searched and (never_seen or removed)):
            raise error  # of what is there and may not be read, the search tells; its name may be no image's
        if before is None or never_seen:
            before = self._unseen(path, overlay, error)
        self.lost[path] = error.told_as(StorageError, errno=errno.EIO)
        return before

    def _unseen(self, path: str, overlay: Entry, error: VdifsError) -> Entry:
        """Return what an overlay alone tells of its backing file; raise `error` if that may be no image."""
        self._never_seen.add(path)
        stated = overlay.backing_format or USUAL
        if stated not in FORMATS or error.errno in _NO_IMAGE:
            raise error
        return Entry(path, stated, _NEVER_SEEN, overlay.uid, overlay.gid, overlay.permissions[:1])

    def _by_identity(self) -> Mapping[tuple[int, int], str]:
        """Return the PATHs of the files of the source by device and inode number; of hard links the first."""
        if self._identities is None:
            self._identities = {self._walked[path].fingerprint[:2]: path for path in sorted(self._walked, reverse=True)}
        return self._identities
