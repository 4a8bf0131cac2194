"""What may be wrong with a file, a state of it, or an image above another: each finding a Problem, with a severity."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.chain.members import Member
from vdifs.errors import ChainError, FormatError, InUseError, PolicyError, StorageError, UnsupportedError, VdifsError
from vdifs.formats.problems import Problem, Severity, Teller
from vdifs.formats.qcow2.bitmap_tables import check_bitmap_table
from vdifs.formats.qcow2.entries import data_ranges, packed_ranges, reserved_bits
from vdifs.formats.qcow2.file_tables import FileTables, reserved_l1_entries
from vdifs.formats.qcow2.header import Header, Incompatible
from vdifs.formats.qcow2.layer import Qcow2Layer
from vdifs.formats.qcow2.metadata import read_bitmaps
from vdifs.formats.qcow2.refcounts import reserved_table_bits
from vdifs.formats.qcow2.table_parts import TableParts
from vdifs.storage.known_holes import edges_of

__all__ = [
    "failed",
    "of_bitmaps",
    "of_header",
    "of_size",
    "of_state",
    "of_tables",
    "told",
]


def failed(path: str, error: VdifsError) -> Problem:
    """Return the ERROR of an image that cannot be opened, or not be looked at to the end.

    That a machine is writing it is a NOTE: nothing is wrong with it.
    """
    severity = Severity.NOTE if isinstance(error, InUseError) else Severity.ERROR
    return Problem(path, severity, _kind_of(error), str(error), error.subject)


def _kind_of(error: VdifsError) -> str:
    """Return the word for what an error is about."""
    kinds: list[tuple[type[VdifsError], str]] = [
        (UnsupportedError, "unsupported"),
        (FormatError, "damaged"),
        (PolicyError, "not-trusted"),
        (ChainError, "broken-chain"),
        (StorageError, "unreadable"),
        (InUseError, "in-use"),
    ]
    return next((kind for class_, kind in kinds if isinstance(error, class_)), "changing")


def of_size(of_file: Teller, sizes: tuple[int, ...]) -> Iterator[Problem]:
    """Yield what is wrong with the size of a backing file. sizes: of its overlay, its own, and those below it."""
    overlay, own, *below = sizes
    if own < overlay:
        hides = any(size > own for size in below)
        severity, kind = (Severity.WARNING, "shrunk") if hides else (Severity.NOTE, "shorter")
        yield of_file(severity, kind, f"it ends at {own}, before its overlay: from there on zeros are read")


def of_state(member: Member, layer: Qcow2Layer, tables: FileTables) -> Iterator[Problem]:
    """Yield what is wrong with the L1 table and the L2 tables of a state. tables: of its file."""
    of_state = told(member, member.path)
    try:
        yield from _of_reserved("L1 table", reserved_l1_entries(member.file, layer), of_state)
        yield from _of_entries(tables, member, layer, of_state)
    except VdifsError as error:
        yield failed(member.path, error)


def told(member: Member, path: str) -> Teller:
    """Return what makes a Problem of PATH, which lies in the file of `member`."""
    return lambda severity, kind, message: Problem(path, severity, kind, f"{member.file.name}: {message}")


def of_header(header: Header, problem: Teller, *, has_overlay: bool) -> Iterator[Problem]:
    if header.incompatible_features & Incompatible.DIRTY:
        what = "it is marked dirty: its refcounts may be wrong, which no reader needs: 'qemu-img check -r all'"
        yield problem(Severity.WARNING, "dirty", what)
    if header.backing_file and header.backing_format is None:
        what = "it does not state the format of its backing file: state it with 'qemu-img rebase -u -F'"
        yield problem(Severity.WARNING, "unstated-format", what)
    if header.hidden and not has_overlay:
        yield problem(Severity.NOTE, "hidden", "it is marked hidden, and no image of this chain is above it")


def of_bitmaps(member: Member, header: Header) -> Iterator[Problem]:
    """Yield what is wrong with the dirty bitmaps, without which the disk is read all the same, but not by QEMU."""
    try:
        bitmaps = sorted(enumerate(read_bitmaps(member.file, header)), key=lambda each: each[1].table_offset)
        edges = edges_of(member.file) if bitmaps else np.empty(0, np.int64)
        looked_at = 0
        for index, bitmap in bitmaps:
            what, end = f"table of bitmap {index}", bitmap.table_offset + bitmap.table_size * 8
            # Thousands of bitmaps may claim one table: each part is looked at once, and what lies in a hole is zeros.
            start = max(bitmap.table_offset, looked_at)
            looked_at = max(looked_at, end)
            if start >= end or (end <= member.file.size and _in_hole(start, end, edges)):
                continue
            table = member.file.read_table(what, start, end - start, header.cluster_size)
            try:
                check_bitmap_table(table, header.cluster_size)
            except FormatError as error:
                where = f"{member.file.name}: the {what} at {bitmap.table_offset:#x}"
                raise FormatError(f"{where}: {error.finding}") from error
    except FormatError as error:
        yield Problem(
            member.file_path, Severity.WARNING, "bitmaps", f"{error.finding}: QEMU may refuse the whole image"
        )


def _in_hole(start: int, end: int, edges: NDArray[np.int64]) -> bool:
    """Tell whether a range lies wholly in a hole. edges: edges_of the file."""
    before = int(edges.searchsorted(start, "right"))
    return before % 2 == 0 and before == int(edges.searchsorted(end, "left"))


def of_tables(tables: FileTables, of_file: Teller) -> Iterator[Problem]:
    if tables.lost_blocks:
        what = f"its refcount table is wrong in {tables.lost_blocks} of its entries, which no reader needs"
        yield of_file(Severity.WARNING, "refcounts", f"{what}: 'qemu-img check -r all'")
    yield from _of_reserved(
        "refcount table", int(np.count_nonzero(reserved_table_bits(tables.refcount_table))), of_file
    )
    if tables.overlap is not None:
        what = f"two of its tables overlap at {tables.overlap:#x}"
        yield of_file(Severity.WARNING, "overlap", f"{what}: restore it from a copy")


def _of_entries(tables: FileTables, member: Member, layer: Qcow2Layer, problem: Teller) -> Iterator[Problem]:
    """Yield what is wrong in the L2 tables; damage in one does not hide what is wrong in the others."""
    reserved, on_table, damage = 0, None, None
    for batch in layer.batches(0, layer.virtual_size):
        found = [_of_batch(tables, member, layer, batch)]
        if found[0].damage is not None:
            found = [_of_batch(tables, member, layer, part) for part in batch.neighbours()]
        for each in found:
            reserved += each.reserved
            on_table = each.on_table if on_table is None else on_table
            damage = damage or each.damage
    yield from _of_reserved("L2 tables", reserved, problem)
    if on_table is not None:
        what = f"guest data lie on its own tables, first at {on_table:#x}"
        yield problem(Severity.WARNING, "overlap", f"{what}: restore it from a copy")
    if damage is not None:
        yield failed(member.path, damage)


class _OfBatch(NamedTuple):
    """What is wrong in some entries: how many have reserved bits, which data lie on a table, what they fail with."""

    reserved: int
    on_table: int | None
    damage: VdifsError | None


def _of_batch(tables: FileTables, member: Member, layer: Qcow2Layer, batch: TableParts) -> _OfBatch:
    reserved, on_table = 0, None
    try:
        entries = layer.entries(batch)
        reserved = int(np.count_nonzero(reserved_bits(entries, layer.geometry)))
        packed = packed_ranges(entries, layer.geometry)
        if member.data is member.file:
            on_table = tables.beneath(np.concatenate([data_ranges(entries, layer.geometry), packed]))
        layer.check(batch, entries)
        _check_within_file(member, packed[:, 0])
    except VdifsError as error:
        return _OfBatch(reserved, on_table, error)
    return _OfBatch(reserved, on_table, None)


def _of_reserved(where: str, count: int, problem: Teller) -> Iterator[Problem]:
    if count:
        what = f"reserved bits are set in {count} of the entries in its {where}: ignored"
        yield problem(Severity.NOTE, "reserved-bits", what)


def _check_within_file(member: Member, packed: NDArray[np.int64]) -> None:
    """Refuse compressed data that start beyond the end of the file: reading them would fail."""
    beyond = packed[packed >= member.file.size]
    if len(beyond):
        raise FormatError(
            f"{member.file.name}: compressed data lie at {int(beyond[0]):#x}, beyond the end of the file at "
            f"{member.file.size:#x}: the file was cut short; restore it from a copy"
        )
