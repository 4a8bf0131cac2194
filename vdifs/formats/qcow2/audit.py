"""What may be wrong with a qcow2 file, or with a state of it: each finding a Problem. No guest data are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError, VdifsError
from vdifs.formats.layer import Layer
from vdifs.formats.problems import FileAudit, Problem, Severity, Tell, failed, of_file
from vdifs.formats.qcow2.bitmap_tables import check_bitmap_table
from vdifs.formats.qcow2.entries import data_ranges, packed_ranges, reserved_bits
from vdifs.formats.qcow2.file_tables import FileTables, reserved_l1_entries
from vdifs.formats.qcow2.header import Header, Incompatible
from vdifs.formats.qcow2.layer import Qcow2Layer
from vdifs.formats.qcow2.metadata import read_bitmaps
from vdifs.formats.qcow2.refcounts import reserved_table_bits
from vdifs.formats.table_parts import TableParts
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of

__all__ = ["Qcow2Audit"]

_REPAIR = "'qemu-img check -r all'"
_RESTORE = "restore it from a copy"
_REFUSED = "QEMU may refuse the whole image"


@dataclass(frozen=True, slots=True)
class Qcow2Audit(FileAudit):
    """What was found of a file in all of its states. tables: None for `error`."""

    problems: tuple[Problem, ...]
    tables: FileTables | None = None
    error: VdifsError | None = None

    @classmethod
    def of(cls, file: HostFile, header: Header, path: str, *, has_overlay: bool) -> "Qcow2Audit":
        """Look at what the states of the file PATH share: header, bitmaps, refcounts, and where all tables lie."""
        tell = of_file(file.name, path)
        found = list(_of_header(header, tell, has_overlay=has_overlay))
        try:
            found += _of_bitmaps(file, header, path)
            tables = FileTables.of(file, header)
        except VdifsError as error:
            return cls(tuple(found), None, error)
        return cls((*found, *_of_tables(tables, tell)), tables)

    def of_state(self, layer: Layer, path: str) -> list[Problem]:
        """Return what is wrong with the L1 table and the L2 tables of the state PATH."""
        if self.tables is None or not isinstance(layer, Qcow2Layer):
            return [] if self.error is None else [failed(path, self.error)]
        return list(_of_state(self.tables, layer, path))


def _of_header(header: Header, problem: Tell, *, has_overlay: bool) -> Iterator[Problem]:
    if header.incompatible_features & Incompatible.DIRTY:
        what = "it is marked dirty: its refcounts may be wrong, which no reader needs"
        yield problem(Severity.WARNING, "dirty", what, _REPAIR)
    if header.backing_file and header.backing_format is None:
        what, remedy = "it does not state the format of its backing file", "state it with 'qemu-img rebase -u -F'"
        yield problem(Severity.WARNING, "unstated-format", what, remedy)
    if header.hidden and not has_overlay:
        yield problem(Severity.NOTE, "hidden", "it is marked hidden, and no image of this chain is above it")


def _of_bitmaps(file: HostFile, header: Header, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the dirty bitmaps, without which the disk is read all the same, but not by QEMU."""
    try:
        bitmaps = sorted(enumerate(read_bitmaps(file, header)), key=lambda each: each[1].table_offset)
        data = data_of(file) if bitmaps else Ranges.of([])
        looked_at = 0
        for index, bitmap in bitmaps:
            what, end = f"table of bitmap {index}", bitmap.table_offset + bitmap.table_size * 8
            # Thousands of bitmaps may claim one table: each part is looked at once, and what lies in a hole is zeros.
            start = max(bitmap.table_offset, looked_at)
            looked_at = max(looked_at, end)
            if start >= end or (end <= file.size and data.first_within(start, end) is None):
                continue
            table = file.read_table(what, start, end - start, header.cluster_size)
            try:
                check_bitmap_table(table, header.cluster_size)
            except FormatError as error:
                raise error.at(file.name, f"the {what} at {bitmap.table_offset:#x}") from error
    except FormatError as error:
        # What is said of every damaged image is about its disk, which is read all the same.
        if error.remedy == FormatError.remedy:
            yield Problem(path, Severity.WARNING, "bitmaps", f"{error.what}: {_REFUSED}", error.where)
        else:
            remedy = f"{error.remedy}: {_REFUSED}"
            yield Problem(path, Severity.WARNING, "bitmaps", error.what, error.where, remedy)


def _of_tables(tables: FileTables, tell: Tell) -> Iterator[Problem]:
    if tables.lost_blocks:
        what = f"its refcount table is wrong in {tables.lost_blocks} of its entries, which no reader needs"
        yield tell(Severity.WARNING, "refcounts", what, _REPAIR)
    yield from _of_reserved("refcount table", int(np.count_nonzero(reserved_table_bits(tables.refcount_table))), tell)
    if tables.overlap is not None:
        what = f"two of its tables overlap at {tables.overlap:#x}"
        yield tell(Severity.WARNING, "overlap", what, _RESTORE)


def _of_state(tables: FileTables, layer: Qcow2Layer, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the L1 table and the L2 tables of a state. tables: of its file."""
    tell = of_file(layer.file.name, path)
    try:
        yield from _of_reserved("L1 table", reserved_l1_entries(layer.file, layer), tell)
        yield from _of_entries(tables, layer, path)
    except VdifsError as error:
        yield failed(path, error)


def _of_entries(tables: FileTables, layer: Qcow2Layer, path: str) -> Iterator[Problem]:
    """Yield what is wrong in the L2 tables; damage in one does not hide what is wrong in the others."""
    tell = of_file(layer.file.name, path)
    reserved, on_table, damage = 0, None, None
    for batch in layer.batches(0, layer.virtual_size):
        found = [_of_batch(tables, layer, batch)]
        if found[0].damage is not None:
            found = [_of_batch(tables, layer, part) for part in batch.neighbours()]
        for each in found:
            reserved += each.reserved
            on_table = each.on_table if on_table is None else on_table
            damage = damage or each.damage
    yield from _of_reserved("L2 tables", reserved, tell)
    if on_table is not None:
        what = f"guest data lie on its own tables, first at {on_table:#x}"
        yield tell(Severity.WARNING, "overlap", what, _RESTORE)
    if damage is not None:
        yield failed(path, damage)


class _OfBatch(NamedTuple):
    """What is wrong in some entries: how many have reserved bits, which data lie on a table, what they fail with."""

    reserved: int
    on_table: int | None
    damage: VdifsError | None


def _of_batch(tables: FileTables, layer: Qcow2Layer, batch: TableParts) -> _OfBatch:
    reserved, on_table = 0, None
    try:
        entries = layer.entries(batch)
        reserved = int(np.count_nonzero(reserved_bits(entries, layer.geometry)))
        packed = packed_ranges(entries, layer.geometry)
        if layer.data is layer.file:
            on_table = tables.beneath(np.concatenate([data_ranges(entries, layer.geometry), packed]))
        layer.check(batch, entries)
        _check_within_file(layer.file, packed[:, 0])
    except VdifsError as error:
        return _OfBatch(reserved, on_table, error)
    return _OfBatch(reserved, on_table, None)


def _of_reserved(where: str, count: int, problem: Tell) -> Iterator[Problem]:
    if count:
        what = f"reserved bits are set in {count} of the entries in its {where}: ignored"
        yield problem(Severity.NOTE, "reserved-bits", what)


def _check_within_file(file: HostFile, packed: NDArray[np.int64]) -> None:
    """Refuse compressed data that start beyond the end of the file: reading them would fail."""
    beyond = packed[packed >= file.size]
    if len(beyond):
        raise FormatError(
            f"compressed data lie at {int(beyond[0]):#x}, beyond the end of the file at {file.size:#x}",
            where=file.name,
            remedy=CUT_SHORT,
        )
