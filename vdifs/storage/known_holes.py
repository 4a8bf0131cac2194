"""Where an open file has data, looked for once in each of its states: each of its snapshots is opened by itself."""

import time
from threading import Lock

from cachetools import LRUCache

from vdifs.ranges import Ranges
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.holes import MAX_DATA_RUNS, data_ranges
from vdifs.storage.host_file import HostFile

__all__ = ["data_of"]

_MOST_RANGES = 2 * MAX_DATA_RUNS
"""Of data that are kept, of all files together: 2 MiB."""

_known: LRUCache[Fingerprint, Ranges] = LRUCache(_MOST_RANGES, getsizeof=lambda ranges: len(ranges) + 16)
_lock = Lock()


def data_of(file: HostFile) -> Ranges:
    """Return where `file` has data; all else are holes. See `data_ranges`."""
    if file.fingerprint.racy_for_ns(time.time_ns()):
        return _look_for(file)
    with _lock:
        known: Ranges | None = _known.get(file.fingerprint)
    if known is None:
        known = _look_for(file)
        known.edges.flags.writeable = False
        with _lock:
            _known[file.fingerprint] = known
    return known


def _look_for(file: HostFile) -> Ranges:
    with file.borrowed() as fd:
        return data_ranges(fd, file.size)
