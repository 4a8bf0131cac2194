"""Which part of a disk comes from which file, as `qemu-img map` tells it.

A part that no layer holds belongs to the lowest one that was asked: the bottom, or the last before a backing file that
ends earlier. It is not present and reads as zeros.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vdifs.chain.flattening import Flattening, Source
from vdifs.chain.open_chain import Chain
from vdifs.extents import NO_FILE, Extents, MapKind
from vdifs.formats.qcow2.geometry import MAX_CLUSTER_BITS
from vdifs.wording import json_name

__all__ = ["MapRun", "map_runs", "named_run_json", "run_json"]

_STEP = 1 << MAX_CLUSTER_BITS
_ROWS_AT_ONCE = 4096
_ZERO = {MapKind.ZERO, MapKind.ZERO_ALLOC, MapKind.DATA_HOLE, MapKind.ABSENT, MapKind.ABSENT_ALLOC}
_DATA = {MapKind.DATA, MapKind.DATA_HOLE, MapKind.COMPRESSED}
_NOT_PRESENT = {MapKind.UNALLOCATED, MapKind.ABSENT, MapKind.ABSENT_ALLOC}


class MapRun(NamedTuple):
    """One run. depth: index in the chain of the layer it belongs to. offset: in the file, or None.

    file: the index of the file in the chain's `data_files`; of a run with an offset it is where that lies.
    """

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    compressed: bool
    offset: int | None
    file: int


def map_runs(chain: Chain, down_to: int | None = None) -> Iterator[MapRun]:
    """Yield the maximal runs of the disk of `chain`, in order.

    down_to: do not look into the layers from that index on; what they would decide has that depth, is not present and
    neither zero nor data. Follows get_block_status of qemu-img.c. Raises FormatError, StorageError.
    """
    depths = [*(depth for depth, member in enumerate(chain.members) for _ in member.data), len(chain.members)]
    pending: MapRun | None = None
    for part in _parts(chain, down_to):
        for run in _runs(part, depths):
            if pending is not None and _continues(pending, run):
                pending = pending._replace(length=pending.length + run.length)
            else:
                if pending is not None:
                    yield pending
                pending = run
    if pending is not None:
        yield pending


def named_run_json(chain: Chain, run: MapRun) -> dict[str, Any]:
    """Return a run of `chain` as `qemu-img map --output=json` writes it."""
    value = run_json(run)
    if run.offset is not None:
        value |= json_name("filename", chain.data_files[run.file].path)
    return value


def run_json(run: MapRun) -> dict[str, Any]:
    """Return a run as `qemu-img map --output=json` writes it, without the name of the file that its offset is in."""
    value: dict[str, Any] = {
        "start": run.start,
        "length": run.length,
        "depth": run.depth,
        "present": run.present,
        "zero": run.zero,
        "data": run.data,
        "compressed": run.compressed,
    }
    if run.offset is not None:
        value["offset"] = run.offset
    return value


def _parts(chain: Chain, down_to: int | None) -> Iterator[Extents]:
    """Yield what a map shows of the whole disk, in parts of no more than some runs."""
    if chain.paired and down_to is not None:
        yield from _paired_parts(chain, chain.first_file[down_to])
        return
    sizes = [*(member.layer.virtual_size for member in chain.members), 0]
    sources = [
        Source(chain.members[index].layer.load, partial(_details_of, chain, index), min(sizes[index : index + 2]))
        for index in range(len(chain.members[:down_to]))
    ]
    for found in Flattening(sources, _STEP, _STEP).parts(0, chain.virtual_size):
        if down_to is not None:
            found.file[found.kind == MapKind.UNALLOCATED] = chain.first_file[down_to]
        yield found


def _paired_parts(chain: Chain, first_file: int) -> Iterator[Extents]:
    """Yield what a pair holds; first_file: the index of the base's first file, where it holds nothing."""
    for found in chain.flattening(step=_STEP, grid=_STEP).parts(0, chain.virtual_size):
        alike = (found.file == NO_FILE) | (found.file >= first_file)
        kind = np.where(alike, np.uint8(MapKind.UNALLOCATED), found.kind)
        file = np.where(alike, np.int16(first_file), found.file)
        yield Extents(found.start, kind, file, np.where(alike, 0, found.host), found.end).merged()


def _details_of(chain: Chain, index: int, start: int, end: int) -> Extents:
    """Return what the layer at `index` says of the range, and nothing of what lies beyond its end."""
    size, below, *_ = [*(member.layer.virtual_size for member in chain.members[index : index + 2]), 0]
    layer = chain.members[index].layer
    parts = [_closed(layer.details(start, min(end, size)), chain.first_file[index], below)] if start < size else []
    if end > size:
        parts.append(Extents.uniform(max(start, size), end, MapKind.UNALLOCATED))
    return Extents.joined(parts)


def _closed(own: Extents, first_file: int, below: int) -> Extents:
    """Return what a layer holds, and what no layer holds because the one below ends at `below`.

    first_file: the index in the chain of the layer's first data file.
    """
    if own.start[0] < below < own.end:
        own = own.cut(np.array([below], np.int64))
    kind = own.kind.copy()
    lost = own.start >= below
    kind[lost & (kind == MapKind.UNALLOCATED)] = MapKind.ABSENT
    kind[lost & (kind == MapKind.UNALLOCATED_ALLOC)] = MapKind.ABSENT_ALLOC
    kind[kind == MapKind.UNALLOCATED_ALLOC] = MapKind.UNALLOCATED
    host = np.where(kind == MapKind.UNALLOCATED, 0, own.host)
    return Extents(own.start, kind, np.maximum(own.file, 0) + np.int16(first_file), host, own.end)


def _runs(extents: Extents, depths: Sequence[int]) -> Iterator[MapRun]:
    """Yield the runs; depths: for each file of the chain that of its layer."""
    columns = (extents.start, extents.length, extents.kind, extents.file, extents.host, extents.has_offset)
    for at in range(0, len(extents.start), _ROWS_AT_ONCE):
        rows = (column[at : at + _ROWS_AT_ONCE].tolist() for column in columns)
        for start, length, kind, file, host, has_offset in zip(*rows, strict=True):
            yield MapRun(
                start,
                length,
                depths[file],
                kind not in _NOT_PRESENT,
                kind in _ZERO,
                kind in _DATA,
                kind == MapKind.COMPRESSED,
                host if has_offset else None,
                file,
            )


def _continues(run: MapRun, following: MapRun) -> bool:
    """Tell whether `following` says the same as `run`, its offset going on."""
    expected = None if run.offset is None else run.offset + run.length
    same_file = run.file == following.file or expected is None
    return run[2:7] == following[2:7] and following.offset == expected and same_file
