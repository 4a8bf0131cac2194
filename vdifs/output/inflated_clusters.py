"""Compressed clusters of one chain, inflated: those of one request side by side, the last ones kept.

The thread that asks reads the packed bytes; the others only compute. So a source that hangs holds up that thread alone.
"""

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import cache
from threading import Lock
from typing import NamedTuple

from vdifs.chain.open_chain import Chain
from vdifs.errors import FormatError, WouldBlock
from vdifs.formats.qcow2.entries import compressed_cluster
from vdifs.formats.qcow2.header import CompressionType
from vdifs.output.cache import ByteBoundedCache
from vdifs.storage.host_file import HostFile

__all__ = ["InflatedClusters", "Use"]

_kept: ByteBoundedCache[bytes] = ByteBoundedCache(16 << 20, len)
_serial = itertools.count()
_AT_ONCE = 4 << 20
"""So many inflated bytes' packed clusters are read before they are inflated: a bound on memory, not on the request."""
_WORKERS = min(8, os.cpu_count() or 1)
_locks = [Lock() for _ in range(64)]
"""Two requests for parts of one cluster inflate it once; keys share them."""


class Use(NamedTuple):
    """Part of a cluster that is wanted: `target` is to hold its bytes from `skip` on."""

    layer: int
    entry: int
    skip: int
    target: memoryview


class _Source(NamedTuple):
    """A layer that may hold compressed clusters."""

    file: HostFile
    cluster_bits: int
    compression: CompressionType


class _Job(NamedTuple):
    """A cluster to inflate for `uses`, all of the same one. offset: of `packed` in the file."""

    uses: list[Use]
    offset: int
    packed: bytes


class InflatedClusters:
    """Inflates for one chain. Safe to use from several threads."""

    def __init__(self, chain: Chain) -> None:
        """Read nothing yet."""
        self._sources = {
            layer: _Source(member.data, member.header.cluster_bits, CompressionType(member.header.compression_type))
            for layer, member in enumerate(chain.members)
            if member.header is not None
        }
        self._key = next(_serial)

    def fill(self, uses: Sequence[Use], *, wait: bool) -> None:
        """Fill the target of each use. wait=False: raises WouldBlock unless all clusters are kept already.

        Raises FormatError for damaged data, StorageError.
        """
        missing: dict[tuple[int, int], list[Use]] = {}
        for use in uses:
            data = _kept.get((self._key, use.layer, use.entry))
            if data is None:
                missing.setdefault((use.layer, use.entry), []).append(use)
            else:
                _copy(data, use)
        if missing and not wait:
            raise WouldBlock
        jobs: list[_Job] = []
        size = 0
        for (layer, entry), wanted in missing.items():
            source = self._sources[layer]
            place = compressed_cluster(entry, source.cluster_bits)
            jobs.append(_Job(wanted, place.offset, source.file.read_at(place.offset, place.length)))
            size += 1 << source.cluster_bits
            if size >= _AT_ONCE:
                self._inflate_side_by_side(jobs)
                jobs, size = [], 0
        self._inflate_side_by_side(jobs)

    def _inflate_side_by_side(self, jobs: list[_Job]) -> None:
        """Do `jobs`, a part of them in this thread; return, or raise the first error, when all are done."""
        shares = [jobs[index::_WORKERS] for index in range(min(_WORKERS, len(jobs)))]
        others = [_pool().submit(self._inflate, share) for share in shares[1:]]
        try:
            if shares:
                self._inflate(shares[0])
        finally:
            wait_for(others)  # they write into the caller's buffer
        while others:
            others.pop(0).result()  # not kept here: its error would hold this frame, and the frame its error

    def _inflate(self, jobs: list[_Job]) -> None:
        from vdifs.formats.qcow2.inflate import Inflater  # its libraries are only for who has compressed clusters

        inflaters: dict[int, Inflater] = {}
        for job in jobs:
            layer, entry = job.uses[0].layer, job.uses[0].entry
            source, key = self._sources[layer], (self._key, layer, entry)
            with _locks[hash(key) % len(_locks)]:
                data = _kept.get(key)
                if data is None:
                    if layer not in inflaters:
                        inflaters[layer] = Inflater(1 << source.cluster_bits, source.compression)
                    try:
                        data = inflaters[layer].inflate(job.packed)
                    except FormatError as error:
                        raise _damaged(source.file, job.offset, error) from error
                    _kept.put(key, data)
            for use in job.uses:
                _copy(data, use)


def _damaged(file: HostFile, offset: int, error: FormatError) -> FormatError:
    damaged = FormatError(f"{file.name}: compressed cluster at {offset:#x}: {error.finding}")
    damaged.about = "inflating", file.path  # one line in the log, not one for each cluster
    return damaged


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, "inflate")


def _start_anew() -> None:
    """Forget what threads of the parent had to do with: in a process just forked there are none of them."""
    _kept.start_anew()
    _locks[:] = [Lock() for _ in _locks]
    _pool.cache_clear()


os.register_at_fork(after_in_child=_start_anew)


def _copy(data: bytes, use: Use) -> None:
    use.target[:] = data[use.skip : use.skip + len(use.target)]
