"""Where an open file has data, looked for once in each of its states: each of its snapshots is opened by itself."""

import time
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.holes import MAX_DATA_RUNS, data_edges
from vdifs.storage.host_file import HostFile

__all__ = ["edges_of"]

_MOST_EDGES = 4 * MAX_DATA_RUNS
"""Edges of runs of data that are kept, of all files together: 2 MiB."""

_known: LRUCache[Fingerprint, NDArray[np.int64]] = LRUCache(_MOST_EDGES, getsizeof=lambda edges: len(edges) + 32)
_lock = Lock()


def edges_of(file: HostFile) -> NDArray[np.int64]:
    """Return where data start and end in `file`, in turns; all else are holes. See `data_edges`."""
    if file.fingerprint.racy_for_ns(time.time_ns()):
        return _look_for(file)
    with _lock:
        known: NDArray[np.int64] | None = _known.get(file.fingerprint)
    if known is None:
        known = _look_for(file)
        known.flags.writeable = False
        with _lock:
            _known[file.fingerprint] = known
    return known


def _look_for(file: HostFile) -> NDArray[np.int64]:
    with file.borrowed() as fd:
        return data_edges(fd, file.size)
