"""The ancestors that a search does not reach: hidden, excluded, or beneath a trusted directory. They are images too.

What lies in the source and is only named by another way, as a bind mount of it is trusted, is the image that was found
there: a file that is beneath SOURCE is that file, whatever name led to it.
"""

import errno
from collections.abc import Mapping
from dataclasses import replace

from vdifs.errors import FormatError, PolicyError, StorageError, VdifsError, printable
from vdifs.qcow2.header import NOT_QCOW2
from vdifs.source.entry import Entry
from vdifs.source.policy import TRUST_PREFIX, Policy
from vdifs.source.sniff import find, sniff
from vdifs.source.troubles import is_within
from vdifs.source.walk import Found

__all__ = ["Ancestors"]

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Ancestors:
    """Finds them for one scan. missing: those that cannot be had, by PATH, and why. lost: those that could be, once.

    aliases: PATHs beneath trusted directories that lead to files beneath the source root, and the PATHs of these.
    """

    def __init__(
        self,
        policy: Policy,
        walked: Mapping[str, Found],
        before: Mapping[str, Entry],
        troubles: Mapping[str, VdifsError],
    ) -> None:
        """Have found nothing. walked: the files that the search found. before: the entries of the last scan."""
        self.missing: dict[str, VdifsError] = {}
        self.lost: dict[str, VdifsError] = {}
        self.aliases: dict[str, str] = {}
        self._policy = policy
        self._walked = walked
        self._before = before
        self._troubles = troubles
        self._identities: dict[tuple[int, int], str] | None = None

    def add_to(self, entries: dict[str, Entry]) -> None:
        """Add to `entries` the backing files that are not among them."""
        waiting = list(entries.values())
        while waiting:
            overlay = waiting.pop()
            path = overlay.backing_path
            if path is None or path in entries or path in self.missing or self.aliases.get(path) in entries:
                continue
            try:
                added = self._entry(path, overlay.backing_format)
            except VdifsError as error:
                self.missing[path] = error.bare()
            else:
                if added.path not in entries:
                    entries[added.path] = added
                    waiting.append(added)

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

    def _entry(self, path: str, stated: str | None) -> Entry:
        """Return the entry of an ancestor. Raises VdifsError."""
        try:
            found = find(self._policy, path)
        except VdifsError as error:
            return self._as_it_was(path, error)
        if path.startswith(TRUST_PREFIX) and (alias := self._by_identity().get(found.fingerprint[:2])) is not None:
            self.aliases[path] = alias
            found = find(self._policy, alias)
        sniffed = sniff(self._policy, found, stated=stated)
        if not sniffed:
            raise FormatError(f"{printable(self._policy.display(path))}: {NOT_QCOW2}")
        return sniffed[0]

    def _as_it_was(self, path: str, error: VdifsError) -> Entry:
        """Return what is known of an ancestor that was seen and cannot be found; raise `error` if it may have gone.

        What lies beneath a trusted directory stays listed as long as an image names it: of a folder there that was
        unmounted, or emptied, nothing else would tell.
        """
        before = self._before.get(path)
        absent = error.errno in _ABSENT and not path.startswith(TRUST_PREFIX)
        if before is None or isinstance(error, PolicyError) or (absent and is_within(path, self._troubles) is None):
            raise error
        self.lost[path] = StorageError(str(error), errno=errno.EIO)
        return before

    def _by_identity(self) -> Mapping[tuple[int, int], str]:
        """Return the PATHs of the files of the source by device and inode number; of hard links the first."""
        if self._identities is None:
            self._identities = {self._walked[path].fingerprint[:2]: path for path in sorted(self._walked, reverse=True)}
        return self._identities
