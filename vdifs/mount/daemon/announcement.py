"""What `mount` says, in one line, of what it does not serve. Pure: counts in, words out."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

from vdifs.catalog.entry import Entry
from vdifs.catalog.left_out import LeftOut
from vdifs.errors import InUseError, VdifsError, printable

__all__ = ["AnnouncedCatalog", "announcement"]

_WORDS = {
    "skipped-link": ("link is not followed", "links are not followed"),
    "include": ("pattern of --include is like no image", "patterns of --include are like no image"),
}
_TROUBLE = ("folder cannot be looked into", "folders cannot be looked into")
_OTHER = ("file is left out", "files are left out")


class AnnouncedCatalog(Protocol):
    """What `announcement` asks of a catalog."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The images by PATH."""

    @property
    def left_out(self) -> Collection[LeftOut]:
        """What is not served apart from refused images."""

    @property
    def troubles(self) -> Mapping[str, VdifsError]:
        """The folders of which it cannot be told what they hold."""

    def chain(self, path: str) -> tuple[Entry, ...]:
        """Return an image and its ancestors; raises VdifsError."""


def announcement(mountpoint: str, catalog: AnnouncedCatalog, failed: Collection[str]) -> str:
    """Return the line, empty if all is served. failed: the PATHs of images that could not be opened."""
    parts = []
    in_use = refused = 0
    for path, entry in catalog.entries.items():
        problem = _problem_of(catalog, entry)
        in_use += isinstance(problem, InUseError)
        refused += not isinstance(problem, InUseError) and (problem is not None or path in failed)
    of = f"of {len(catalog.entries)} images"
    if refused:
        parts.append(f"{refused} {of} cannot be served")
    if in_use:
        parts.append(f"{in_use} {of} {'is' if in_use == 1 else 'are'} in use")
    words = Counter([_TROUBLE] * len(catalog.troubles))
    words.update(_WORDS.get(each.kind, _OTHER) for each in catalog.left_out)
    parts += [f"{count} {one if count == 1 else many}" for (one, many), count in words.items()]
    if not parts:
        return ""
    name = printable(mountpoint)
    return f"{name}: {', '.join(parts)}: see 'vdifs status {name}'"


def _problem_of(catalog: AnnouncedCatalog, entry: Entry) -> VdifsError | None:
    if entry.problem is not None or entry.backing_path is None:
        return entry.problem
    try:
        catalog.chain(entry.path)
    except VdifsError as error:
        return error
    return None
