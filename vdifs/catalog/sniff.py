"""From a file to the image that it is, if it is one, as its header tells.

Its internal snapshots are counted only: which are offered is for `vdifs.catalog.offered`.
"""

import time
from collections.abc import Mapping, MutableMapping, MutableSet
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Any

from cachetools import LRUCache

from vdifs.catalog.entry import Entry, KnownByIdentity, unmarked
from vdifs.catalog.image_names import is_called_image, may_be_image
from vdifs.catalog.walk import Found
from vdifs.chain.access import Permission
from vdifs.chain.links import backing_of, cannot_be_opened, data_files_of
from vdifs.chain.ownership import check_owner, folders_below_root
from vdifs.chain.policy import Policy
from vdifs.errors import FormatError, InUseError, VdifsError, printable
from vdifs.formats.image_format import Front, Metadata
from vdifs.formats.registry import FORMATS, by_suffix, called, is_called_as_read, is_called_part, is_part, probed, says
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.host_file import HostFile

_read: LRUCache[tuple[Fingerprint, str, str | None], Metadata] = LRUCache(16)
"""Of files with several names, those that were looked at last."""
_lock = Lock()

__all__ = ["find", "has_same_links", "sniff"]


class _Damaged(Exception):  # noqa: N818 - it carries the error
    """An image cannot be read whose format is known: that names its files in a mount."""

    def __init__(self, image_format: str, error: VdifsError) -> None:
        super().__init__(image_format)
        self.format = image_format
        self.error = error


def find(policy: Policy, path: str) -> Found:
    """Return a file that the walk does not reach. Raises PolicyError, StorageError."""
    file = policy.open(path)
    try:
        own, st = Permission.of(file.fd, file.status), file.status
    finally:
        file.close()
    return Found(path, file.fingerprint, st.st_uid, st.st_gid, (own, *folders_below_root(policy, path)))


def has_same_links(policy: Policy, entry: Entry) -> bool:
    """Tell whether the files that an image names are as they were; a problem of its own bytes is, too."""
    if not entry.data:
        return entry.problem is None or isinstance(entry.problem, FormatError)
    try:
        return all(find(policy, each.path) == each for each in entry.data)
    except VdifsError:
        return False


def sniff(
    policy: Policy,
    found: Found,
    *,
    stated: str | None = None,
    known: Mapping[str, Found] | None = None,
    unread: MutableMapping[str, VdifsError] | None = None,
    parts: MutableSet[str] | None = None,
) -> tuple[Entry, ...]:
    """Return the entries of a file, the active state first, none if it is no image.

    stated: the format that an overlay states for it. known: files whose PATH need not be kept once more. unread: gets
    a file that cannot be read and whose name does not tell whether it is an image. parts: gets one that is called as an
    image, and is a part of one.
    """
    entry = Entry(found.path, called(found.path).name, found.fingerprint, found.uid, found.gid, found.permissions)
    try:
        file = policy.open(found.path)
    except VdifsError as error:
        if _is_candidate(found.path):
            return (replace(entry, problem=error.bare()),)
        if unread is not None and may_be_image(found.path):
            unread[found.path] = error.bare()
        return ()
    try:
        entries = _entries(policy, file, entry, stated, known or {})
        if not entries and parts is not None and _is_part(file, found.path):
            parts.add(found.path)
        return _marked(file, entries) if policy.live == "refuse" else entries
    finally:
        file.close()


def _entries(
    policy: Policy, file: HostFile, entry: Entry, stated: str | None, known: Mapping[str, Found]
) -> tuple[Entry, ...]:
    """Return `entry`, of which only the file is known, with what stands in the file; nothing if it is no image."""
    try:
        metadata = _metadata(file, stated)
        if metadata is None:
            taken = FORMATS.get(stated or "") or by_suffix(entry.path)
            return (unmarked(entry, taken),) if taken is not None and taken.unmarked else ()
    except _Damaged as damaged:
        return (replace(entry, format=damaged.format, problem=damaged.error.bare()),)
    except VdifsError as error:
        return (replace(entry, problem=error.bare()),)
    told: dict[str, Any] = {
        "virtual_size": _shared_size(metadata.virtual_size),
        "snapshots": metadata.snapshot_count,
        "hidden": metadata.hidden,
    }
    try:
        told |= _links(policy, entry, metadata, known)
    except VdifsError as error:
        told["problem"] = error.bare()
    as_found = entry.fingerprint, entry.uid, entry.gid, entry.permissions
    if not metadata.identities and metadata.parent is None:
        return (Entry(entry.path, metadata.format.name, *as_found, **told),)
    told |= {"identities": metadata.identities, "parent": metadata.parent}
    return (KnownByIdentity(entry.path, metadata.format.name, *as_found, **told),)


def _is_part(file: HostFile, path: str) -> bool:
    """Tell whether a file that is no image may be missed as one, by its name, and is a part of one."""
    try:
        return is_called_image(path) and is_part(Front(file))
    except VdifsError:
        return False


def _marked(file: HostFile, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries of an open file, marked as live if it is being written."""
    try:
        if entries:
            file.check_no_writer()
    except InUseError as error:
        return tuple(replace(entry, live=True, problem=error.bare()) for entry in entries)
    except VdifsError:
        pass  # opening it will tell
    return entries


def _metadata(file: HostFile, stated: str | None) -> Metadata | None:
    """Return what `file` says, which is read once for all of its names, None if it bears no mark of a format."""
    if file.status.st_nlink == 1 or file.fingerprint.racy_for_ns(time.time_ns()):
        return _read_metadata(file, stated)
    key = file.fingerprint, says(file.path), stated
    with _lock:
        if (known := _read.get(key)) is not None:
            return known
    if (metadata := _read_metadata(file, stated)) is not None:
        with _lock:
            _read[key] = metadata
    return metadata


def _read_metadata(file: HostFile, stated: str | None) -> Metadata | None:
    front = Front(file)
    found = probed(front, stated)
    try:
        return None if found is None else found.read(front)
    except VdifsError as error:
        assert found is not None, "only a format reads"
        raise _Damaged(found.name, error) from error


def _links(policy: Policy, entry: Entry, metadata: Metadata, known: Mapping[str, Found]) -> dict[str, Any]:
    """Return the fields of an entry that tell of the files which the image names."""
    data: list[Found] = []
    for path in data_files_of(policy, entry.path, metadata):
        try:
            data.append(find(policy, path))
        except VdifsError as error:
            raise cannot_be_opened(printable(policy.display(entry.path)), "data file", error) from error
        namer, named = policy.display(entry.path), policy.display(path)
        check_owner(namer, entry.uid, "data file", named, data[-1].permissions)
    links: dict[str, Any] = {"data": tuple(data)}
    if metadata.parent is not None:
        return links  # which is looked for when all images are known
    if (backing := backing_of(policy, entry.path, metadata)) is None:
        return links
    path, stated = known.get(backing.path, backing).path, FORMATS.get(backing.stated or "")
    return links | {"backing_path": path, "backing_format": backing.stated if stated is None else stated.name}


@lru_cache
def _shared_size(size: int) -> int:
    """Return the same object for equal sizes: images are many, their sizes few."""
    return size


def _is_candidate(path: str) -> bool:
    """Tell whether a file that cannot be opened should be shown as an image that cannot be served."""
    return is_called_as_read(path) and not is_called_part(path)
