"""What may be wrong with a VMDK: each finding a Problem. No guest data are read."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import VdifsError
from vdifs.extents import Kind
from vdifs.formats.layer import Layer
from vdifs.formats.problems import FileAudit, Problem, Severity, failed, of_file
from vdifs.formats.table_parts import TableParts
from vdifs.formats.vmdk.grain_tables import directory_entries
from vdifs.formats.vmdk.layer import VmdkLayer
from vdifs.formats.vmdk.sparse_extent import SparseExtent
from vdifs.ranges import Ranges
from vdifs.units import SECTOR, ceil_div

__all__ = ["VmdkAudit"]

_RESTORE = "restore it from a copy"
_MOST_SLOTS = 1 << 25
"""A file of more grains is not looked at for such as overlap: the marks would take more than 32 MiB."""


class VmdkAudit(FileAudit):
    """All there is to find is in the tables of the extents."""

    def of_state(self, layer: Layer, path: str) -> list[Problem]:
        """Return what is wrong with the tables of the extents."""
        if not isinstance(layer, VmdkLayer):
            return []
        parts = [each.part for each in layer.placed if isinstance(each.part, SparseExtent)]
        return [problem for part in parts for problem in _of_extent(part, path)]


def _of_extent(part: SparseExtent, path: str) -> Iterator[Problem]:
    tell = of_file(part.file.name, path)
    if part.tables.unclean:
        what = "it was not closed cleanly: what was written last may be missing"
        yield tell(Severity.WARNING, "dirty", what, "start and stop its machine once")
    try:
        yield from _of_tables(part, path)
    except VdifsError as error:
        yield failed(path, error)


def _of_tables(part: SparseExtent, path: str) -> Iterator[Problem]:
    """Yield what is wrong in the tables; damage in one does not hide what is wrong in the others."""
    tell = of_file(part.file.name, path)
    own = _own_places(part)
    seen = None if part.tables.packed else _Seen(part)
    on_table, twice, damage = None, None, None
    for batch in part.batches(0, part.size):
        for each in _undamaged(part, batch):
            if isinstance(each, VdifsError):
                damage = damage or each
                continue
            ranges = np.stack([each, each + (SECTOR if part.tables.packed else part.grain)], 1)
            hit = ~own.is_apart_from(ranges[:, 0], ranges[:, 1])
            if on_table is None and hit.any():
                on_table = own.first_within(*ranges[int(hit.argmax())].tolist())
            if seen is not None and (again := seen.add(each)) is not None and twice is None:
                twice = again
    if on_table is not None:
        what = f"guest data lie on its own tables, first at {on_table:#x}"
        yield tell(Severity.WARNING, "overlap", what, _RESTORE)
    if twice is not None:
        yield tell(Severity.WARNING, "overlap", f"two of its grains overlap at {twice:#x}", _RESTORE)
    if damage is not None:
        yield failed(path, damage)


def _undamaged(part: SparseExtent, batch: TableParts) -> Iterator[NDArray[np.int64] | VdifsError]:
    """Yield where the grains of `batch` lie, or what is wrong with those of a part of it."""
    try:
        yield _places(part, batch)
    except VdifsError as error:
        pieces = list(batch.neighbours())
        if len(pieces) == 1:
            yield error
            return
        for piece in pieces:
            yield from _undamaged(part, piece)


def _places(part: SparseExtent, batch: TableParts) -> NDArray[np.int64]:
    entries = part.entries(batch)
    part.check(batch, entries)
    kind, host = part.tables.decode(entries)
    places: NDArray[np.int64] = host[kind == Kind.DATA]
    return places


def _own_places(part: SparseExtent) -> Ranges:
    """Return where its tables are, as far as they do not lie in holes of the file, where data could not be either."""
    tables = part.tables
    directory = directory_entries(tables) * np.dtype(tables.entry).itemsize
    fixed = np.array([(0, SECTOR), (tables.directory, tables.directory + directory)], np.int64)
    return Ranges.union(np.concatenate([fixed, part.table_places()]))


class _Seen:
    """Which grains of a file were met: a mark for each place of that size, in which only one can begin."""

    def __init__(self, part: SparseExtent) -> None:
        self._bits = part.grain.bit_length() - 1
        slots = ceil_div(part.file.size, part.grain)
        self._seen = np.zeros(slots if slots <= _MOST_SLOTS else 0, np.bool_)

    def add(self, hosts: NDArray[np.int64]) -> int | None:
        """Take note of grains; return where one begins in whose place another did, None if none does."""
        if not len(self._seen):
            return None
        slots = hosts >> self._bits
        order = slots.argsort(kind="stable")
        again = self._seen[slots]
        again[order[1:]] |= slots[order[1:]] == slots[order[:-1]]
        self._seen[slots] = True
        return int(hosts[again].min()) if again.any() else None
