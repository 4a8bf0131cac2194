"""Where the internal snapshots of a file have their L1 tables, found by label without parsing the table each time.

A table may hold 65,536 snapshots in 64 MiB, and each of them is opened by itself. What is kept of a table is 40 bytes
for each, for a few files, by fingerprint: a file that is opened again in the same state has the same snapshots.
"""

import hashlib
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from vdifs.formats.qcow2.header import Header
from vdifs.formats.qcow2.layer import L1Place
from vdifs.formats.qcow2.metadata import SnapshotName, each_snapshot_of
from vdifs.formats.qcow2.snapshots import Snapshot, snapshot_labels
from vdifs.pace import give_way
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.host_file import HostFile

__all__ = ["SnapshotPlaces", "check_snapshots", "snapshot_places"]

_MOST_KEPT = 1 << 17
"""Snapshots, of all files together: 5 MiB."""
_DIGEST = 16
_MANY = 1000
"""Snapshots of which reading the table takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class SnapshotPlaces:
    """The L1 places of all snapshots of a file, by label. digests: of the labels, sorted. places: uint64, (n, 3)."""

    digests: NDArray[np.bytes_]
    places: NDArray[np.uint64]

    @classmethod
    def of(cls, snapshots: Iterable[Snapshot], virtual_size: int) -> "SnapshotPlaces":
        """Return the places of `snapshots`; virtual_size: of those that do not record theirs."""
        names, places = list[SnapshotName](), array("Q")
        for each in snapshots:
            names.append(SnapshotName(each.id, each.name))
            size = virtual_size if each.disk_size is None else each.disk_size
            places.extend((each.l1_table_offset, each.l1_size, size))
        digests = np.array([_digest(label) for label in snapshot_labels(names)], f"S{_DIGEST}")
        order = digests.argsort()
        return cls(digests[order], np.array(places, np.uint64).reshape(-1, 3)[order])

    def find(self, label: str) -> L1Place | None:
        """Return the place of the snapshot with that label."""
        wanted = np.array(_digest(label), f"S{_DIGEST}")
        at = int(self.digests.searchsorted(wanted))
        if at == len(self.digests) or self.digests[at] != wanted:
            return None
        return L1Place(*self.places[at].tolist())

    def __len__(self) -> int:
        return len(self.places)


_known: LRUCache[Fingerprint, SnapshotPlaces] = LRUCache(_MOST_KEPT, getsizeof=lambda places: len(places) + 1)
_sound: LRUCache[Fingerprint, None] = LRUCache(4096)
"""The states of files whose tables break no rule."""
_lock = Lock()


def snapshot_places(file: HostFile, header: Header) -> SnapshotPlaces:
    """Return the places for `file`, which has settled. Raises FormatError for a table that breaks a rule."""
    if not header.nb_snapshots:
        return SnapshotPlaces.of((), header.virtual_size)
    with _lock:
        known: SnapshotPlaces | None = _known.get(file.fingerprint)
    if known is None and header.nb_snapshots > _MANY:
        give_way(heavy=True)
        with _lock:
            known = _known.get(file.fingerprint)  # another name of the same file may have had its turn before
    if known is None:
        known = SnapshotPlaces.of(each_snapshot_of(file, header), header.virtual_size)
        with _lock:
            if len(known) < _MOST_KEPT and not file.fingerprint.racy_for_ns(time.time_ns()):
                _known[file.fingerprint] = known
    return known


def check_snapshots(file: HostFile, header: Header) -> None:
    """Raise FormatError if the table of `file`, which has settled, breaks a rule. Keeps nothing of a sound one."""
    if not header.nb_snapshots or _is_sound(file):
        return
    if header.nb_snapshots > _MANY:
        give_way(heavy=True)
        if _is_sound(file):  # another name of the same file has had its turn before
            return
    for _ in each_snapshot_of(file, header):
        pass
    if not file.fingerprint.racy_for_ns(time.time_ns()):
        with _lock:
            _sound[file.fingerprint] = None


def _is_sound(file: HostFile) -> bool:
    with _lock:
        return file.fingerprint in _sound


def _digest(label: str) -> bytes:
    return hashlib.blake2b(label.encode("utf-8", "surrogateescape"), digest_size=_DIGEST).digest()
