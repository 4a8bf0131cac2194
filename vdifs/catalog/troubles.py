"""What a source in trouble keeps: folders of which nothing can be told stay as they were, and their images say why.

emptied    another folder has taken its place, and there is no image in it, as when its disk was unmounted
"""

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from vdifs.catalog.entry import Entry
from vdifs.catalog.walk import Identity
from vdifs.errors import StorageError, VdifsError

__all__ = ["Images", "as_before", "emptied", "in_trouble", "is_within"]


T = TypeVar("T")


class Images(NamedTuple):
    """PATHs of the images of one search, and of the next."""

    before: Collection[str]
    now: Collection[str]


def emptied(
    before: Mapping[str, Identity], now: Mapping[str, Identity], already: Collection[str], images: Images, root: str
) -> dict[str, VdifsError]:
    """Return the folders that are others than before and hold no image now, but did, and what is to be said of them.

    Of the source root, whose images may have been removed one by one before it was, it does not count what it held.
    before, now: the folders of two searches below `root`. already: what this was true of before.
    """
    changed = {path for path, identity in now.items() if before.get(path, identity) != identity}
    return {
        folder: _emptied(os.path.join(root, folder).rstrip("/"))
        for folder in changed | {path for path in already if path in now}
        if (not folder or _any_within(images.before, folder)) and not _any_within(images.now, folder)
    }


def _emptied(folder: str) -> StorageError:
    what = "another folder has taken its place, which holds no image"
    remedy = "put the images back (was a disk unmounted?), or unmount and mount again if it is to be empty"
    return StorageError(what, where=folder, remedy=remedy, errno=errno.EIO)


def as_before(before: Mapping[str, T], folders: Collection[str]) -> dict[str, T]:
    """Return what was known of the PATHs that are, or lie in, one of `folders`."""
    if not folders:
        return {}
    return {path: known for path, known in before.items() if is_within(path, folders) is not None}


def in_trouble(entries: dict[str, Entry], troubles: Mapping[str, VdifsError]) -> dict[str, Entry]:
    """Return `entries`, those in a folder in trouble with that as their problem."""
    if not troubles:
        return entries
    found = ((path, entry, is_within(entry.file_path, troubles)) for path, entry in entries.items())
    return {
        path: entry if folder is None else replace(entry, live=False, problem=troubles[folder])
        for path, entry, folder in found
    }


def is_within(path: str, folders: Collection[str]) -> str | None:
    """Return which of `folders`, PATHs, the file or folder PATH is or lies in, the innermost; None for none."""
    if not folders:
        return None
    return next((each for each in _with_folders(path) if each in folders), None)


def _with_folders(path: str) -> Iterator[str]:
    """Yield `path` and the folders above it; last, but for what is beneath a trusted directory, the source root, ""."""
    outside = path.startswith("@trust/")
    while path:
        yield path
        path = os.path.dirname(path)
    if not outside:
        yield ""


def _any_within(paths: Iterable[str], folder: str) -> bool:
    return any(not folder or path.startswith(f"{folder}/") for path in paths)
