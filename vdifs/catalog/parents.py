"""The parents of listed images that know them by identity: looked up among the entries of a search, and beside them.

In each search anew: a parent that was replaced by an image with another identity is none any more, and one that appears
is one, whether or not the child has changed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from vdifs.catalog.entry import Entry, identities_of
from vdifs.chain.nearby import files_of_source
from vdifs.chain.parents import Fit, Look, find_parent, fits, named_paths
from vdifs.chain.policy import Policy
from vdifs.errors import VdifsError
from vdifs.formats.image_format import Parent
from vdifs.pace import give_way

__all__ = ["Candidate", "Parents"]

Candidate = Callable[[str, Entry, str], Entry]
"""Returns the entry of a file that is not among the images, by its PATH, its child and the format that is stated."""


class Parents:
    """Finds them for one scan. nameless: the PATH of the parent that was found for each image that names none."""

    def __init__(self, policy: Policy, entries: dict[str, Entry], candidate: Candidate, *, searched: bool) -> None:
        """Have found nothing. entries: the images that are known so far. searched: see Ancestors."""
        self.nameless: dict[str, str] = {}
        self._policy = policy
        self._entries = entries
        self._candidate = candidate
        self._searched = searched
        self._beside: dict[str, Sequence[str]] = {}

    def settled(self, child: Entry, parent: Parent) -> tuple[Entry, Entry | None]:
        """Return `child` with its parent as backing file, or with what is wrong, and the parent if it was not known."""

        def look(path: str) -> Fit[Entry] | None:
            give_way()
            entry = self._entries.get(path) or self._candidate(path, child, parent.format)
            return Fit(entry.fingerprint[:2], identities_of(entry), entry) if _fits(entry, parent) else None

        try:
            _, found = find_parent(
                self._policy,
                child.path,
                parent,
                look,
                among=lambda: self._among(child, parent, look),
                beside=self._names_beside,
            )
        except VdifsError as error:
            return self._unsettled(child, parent, error), None
        known = found.path in self._entries
        self._entries.setdefault(found.path, found)
        if not parent.names:
            self.nameless[child.path] = found.path
        return replace(child, backing_path=found.path, backing_format=parent.format), None if known else found

    def _unsettled(self, child: Entry, parent: Parent, error: VdifsError) -> Entry:
        """Return `child` with that error. Where an image has a name that it tells, this stays where it is listed."""
        paths = (path for _, path in named_paths(self._policy, child.path, parent))
        known = (path for path in paths if path in self._entries and path != child.path)
        path = next((path for path in known if self._entries[path].format == parent.format), None)
        problem = child.problem or error.bare()
        stated = None if path is None else parent.format
        return replace(child, backing_path=path, backing_format=stated, problem=problem)

    def _among(self, child: Entry, parent: Parent, look: Look[Entry]) -> Sequence[str]:
        """Return the PATHs of the images with a wanted identity; where nothing was searched, of all files."""
        if not self._searched:
            known = self._policy.known_parent(child.path)
            with suppress(VdifsError):
                if known is not None and look(known) is not None:
                    return [known]
            return files_of_source(self._policy)
        return [path for identity in parent.identities for path in self._by_identity.get(identity, ())]

    @cached_property
    def _by_identity(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for path, entry in self._entries.items():
            for identity in identities_of(entry):
                found[identity].append(path)
        return found

    def _names_beside(self, path: str) -> Sequence[str]:
        folder = path.rpartition("/")[0]
        if folder not in self._beside:
            self._beside[folder] = self._policy.names_beside(path)
        return self._beside[folder]


def _fits(entry: Entry, parent: Parent) -> bool:
    """Tell whether an image is the parent. Raises ChainError as `fits` does."""
    return fits(parent, identities_of(entry) if entry.format == parent.format else frozenset())
