"""Compressed clusters, or other units, of one chain, unpacked: those of one request side by side, the last ones kept.

The thread that asks reads the packed bytes; the others only compute. So a source that hangs holds up that thread alone.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vdifs.chain.open_chain import Chain
from vdifs.errors import FormatError, WouldBlock
from vdifs.formats.layer import Compressed
from vdifs.output.process_caches import unit_cache, workers
from vdifs.storage.host_file import HostFile

__all__ = ["UnpackedUnits", "Use", "damaged_unit"]

_serial = itertools.count()
_AT_ONCE = 4 << 20
"""So many unpacked bytes' units are read before they are unpacked: a bound on memory, not on the request."""


class Use(NamedTuple):
    """Part of a unit that is wanted: `target` is to hold its bytes from `skip` on. file: of the chain, by index."""

    file: int
    token: int
    skip: int
    target: memoryview


class _Job(NamedTuple):
    """A unit to unpack for `uses`, all of the same one. offset: of `packed` in the file."""

    uses: list[Use]
    offset: int
    packed: bytes


class UnpackedUnits:
    """Unpacks for one chain. Safe to use from several threads."""

    def __init__(self, chain: Chain) -> None:
        """Read nothing yet."""
        self._files = chain.data_files
        self._compressed = [member.layer.compressed for member in chain.members for _ in member.data]
        self._key = next(_serial)

    def uses(self, file: int, token: int, guest: int, target: memoryview) -> Iterator[Use]:
        """Yield the uses of `target`, from guest offset `guest` on; neighbouring units may share one token."""
        size = self._of(file).unit
        done = 0
        while done < len(target):
            skip = (guest + done) % size
            count = min(size - skip, len(target) - done)
            yield Use(file, token, skip, target[done : done + count])
            done += count

    def fill(self, uses: Sequence[Use], *, wait: bool) -> None:
        """Fill the target of each use. wait=False: raises WouldBlock unless all units are kept already.

        Raises FormatError for damaged data, StorageError.
        """
        missing: dict[tuple[int, int], list[Use]] = {}
        for use in uses:
            data = unit_cache.get((self._key, use.file, use.token))
            if data is None:
                missing.setdefault((use.file, use.token), []).append(use)
            else:
                _copy(data, use)
        if missing and not wait:
            raise WouldBlock
        jobs: list[_Job] = []
        size = 0
        for (file, token), wanted in missing.items():
            compressed = self._of(file)
            place = compressed.place(token)
            jobs.append(_Job(wanted, place.offset, self._files[file].read_at(place.offset, place.length)))
            size += compressed.unit
            if size >= _AT_ONCE:
                workers.side_by_side(self._unpack, jobs)
                jobs, size = [], 0
        workers.side_by_side(self._unpack, jobs)

    def _of(self, file: int) -> Compressed:
        compressed = self._compressed[file]
        assert compressed is not None, "only layers that have them say that there are some"
        return compressed

    def _unpack(self, jobs: Sequence[_Job]) -> None:
        unpackers: dict[int, Callable[[bytes], bytes]] = {}
        for job in jobs:
            file, token = job.uses[0].file, job.uses[0].token
            key = self._key, file, token
            with workers.lock_of(key):  # two requests for parts of one unit unpack it once
                data = unit_cache.get(key)
                if data is None:
                    if file not in unpackers:
                        unpackers[file] = self._of(file).unpacker()
                    try:
                        data = unpackers[file](job.packed)
                    except FormatError as error:
                        raise damaged_unit(self._files[file], job.offset, error) from error
                    unit_cache.put(key, data)
            for use in job.uses:
                _copy(data, use)


def damaged_unit(file: HostFile, offset: int, error: FormatError) -> FormatError:
    """Return `error`, in the packed bytes at `offset` of `file`, as users are to see it."""
    damaged = error.at(file.name, f"compressed cluster at {offset:#x}")
    damaged.about = "inflating", file.path  # one line in the log, not one for each cluster
    return damaged


def _copy(data: bytes, use: Use) -> None:
    use.target[:] = data[use.skip : use.skip + len(use.target)]
