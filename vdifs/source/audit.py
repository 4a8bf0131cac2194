"""Every problem of an image, with a severity: what opening refuses, and what QEMU and vdifs read but should not be.

An ERROR keeps the image from being served. A WARNING does not, but somebody should look. A NOTE is worth knowing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import ChainError, FormatError, InUseError, PolicyError, StorageError, UnsupportedError, VdifsError
from vdifs.qcow2.bitmaps import check_bitmap_table
from vdifs.qcow2.entries import data_ranges, l1_reserved_bits, packed_ranges, reserved_bits
from vdifs.qcow2.header import Header, Incompatible
from vdifs.qcow2.refcounts import reserved_table_bits
from vdifs.source.chain import Chain
from vdifs.source.file_tables import FileTables
from vdifs.source.members import Member, read_bitmaps
from vdifs.source.policy import Policy
from vdifs.source.qcow2_layer import Qcow2Layer

__all__ = ["Problem", "Severity", "audit"]


class Severity(StrEnum):
    """How bad it is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. path: PATH of the image that has it. kind: one of a few words, for programs."""

    path: str
    severity: Severity
    kind: str
    message: str


Teller = Callable[[Severity, str, str], Problem]


def audit(policy: Policy, path: str, snapshot: str | None = None, *, stated: str | None = None) -> list[Problem]:
    """Return the problems of the image PATH and of its chain, as far as its tables tell; no guest data are read.

    stated: the format of PATH, None where it is to be found out.
    """
    name = path if snapshot is None else f"{path}@{snapshot}"
    try:
        chain = Chain.open(policy, path, snapshot, stated=stated)
    except VdifsError as error:
        return [Problem(name, Severity.ERROR, kind_of(error), str(error))]
    with chain:
        found = [problem for depth in range(len(chain.members)) for problem in _of_member(chain, depth)]
        try:
            chain.check_unchanged()
        except VdifsError as error:
            found.append(Problem(name, Severity.ERROR, kind_of(error), str(error)))
    return found


def kind_of(error: VdifsError) -> str:
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


def _of_member(chain: Chain, depth: int) -> Iterator[Problem]:
    member = chain.members[depth]
    of_file, of_state = _told(member, member.file_path), _told(member, member.path)
    sizes = [other.layer.virtual_size for other in chain.members]
    if depth and sizes[depth] < sizes[depth - 1]:
        hides = any(size > sizes[depth] for size in sizes[depth + 1 :])
        severity, kind = (Severity.WARNING, "shrunk") if hides else (Severity.NOTE, "shorter")
        yield of_file(severity, kind, f"it ends at {sizes[depth]}, before its overlay: from there on zeros are read")
    if member.header is None:
        return
    yield from _of_header(member.header, of_file, has_overlay=depth > 0)
    assert isinstance(member.layer, Qcow2Layer), "a member with a header is a qcow2"
    try:
        yield from _of_bitmaps(member, member.header)
        tables = FileTables.of(member, member.header)
        yield from _of_tables(tables, of_file, of_state)
        yield from _of_entries(tables, member, member.layer, of_state)
    except VdifsError as error:
        yield Problem(member.path, Severity.ERROR, kind_of(error), str(error))


def _told(member: Member, path: str) -> Teller:
    """Return what makes a Problem of PATH, which lies in the file of `member`."""
    return lambda severity, kind, message: Problem(path, severity, kind, f"{member.file.name}: {message}")


def _of_header(header: Header, problem: Teller, *, has_overlay: bool) -> Iterator[Problem]:
    if header.incompatible_features & Incompatible.DIRTY:
        what = "it is marked dirty: its refcounts may be wrong, which no reader needs: 'qemu-img check -r all'"
        yield problem(Severity.WARNING, "dirty", what)
    if header.backing_file and header.backing_format is None:
        what = "it does not state the format of its backing file: state it with 'qemu-img rebase -u -F'"
        yield problem(Severity.WARNING, "unstated-format", what)
    if header.hidden and not has_overlay:
        yield problem(Severity.NOTE, "hidden", "it is marked hidden, and no image of this chain is above it")


def _of_bitmaps(member: Member, header: Header) -> Iterator[Problem]:
    """Yield what is wrong with the dirty bitmaps, without which the disk is read all the same, but not by QEMU."""
    try:
        for index, bitmap in enumerate(read_bitmaps(member.file, header)):
            what, size = f"table of bitmap {index}", bitmap.table_size * 8
            table = member.file.read_table(what, bitmap.table_offset, size, header.cluster_size) if size else b""
            try:
                check_bitmap_table(table, header.cluster_size)
            except FormatError as error:
                raise FormatError(f"{member.file.name}: the {what} at {bitmap.table_offset:#x}: {error}") from error
    except FormatError as error:
        yield Problem(member.file_path, Severity.WARNING, "bitmaps", f"{error}: QEMU may refuse the whole image")


def _of_tables(tables: FileTables, of_file: Teller, of_state: Teller) -> Iterator[Problem]:
    if tables.lost_blocks:
        what = f"its refcount table is wrong in {tables.lost_blocks} of its entries, which no reader needs"
        yield of_file(Severity.WARNING, "refcounts", f"{what}: 'qemu-img check -r all'")
    yield from _of_reserved(
        "refcount table", int(np.count_nonzero(reserved_table_bits(tables.refcount_table))), of_file
    )
    yield from _of_reserved("L1 table", int(np.count_nonzero(l1_reserved_bits(tables.l1_table))), of_state)
    if tables.overlap is not None:
        what = f"two of its tables overlap at {tables.overlap:#x}"
        yield of_file(Severity.WARNING, "overlap", f"{what}: restore it from a copy")


def _of_entries(tables: FileTables, member: Member, layer: Qcow2Layer, problem: Teller) -> Iterator[Problem]:
    """Yield what is wrong in the L2 tables; damage in one does not hide what is wrong in the others."""
    reserved, on_table, damage = 0, None, None
    for start, end in layer.groups(0, layer.virtual_size):
        try:
            entries = layer.entries(start, end)
            reserved += int(np.count_nonzero(reserved_bits(entries, layer.geometry)))
            packed = packed_ranges(entries, layer.geometry)
            if member.data is member.file and on_table is None:
                on_table = tables.beneath(np.concatenate([data_ranges(entries, layer.geometry), packed]))
            layer.extents(start, end)
            _check_within_file(member, packed[:, 0])
        except VdifsError as error:
            damage = damage or error
    yield from _of_reserved("L2 tables", reserved, problem)
    if on_table is not None:
        what = f"guest data lie on its own tables, first at {on_table:#x}"
        yield problem(Severity.WARNING, "overlap", f"{what}: restore it from a copy")
    if damage is not None:
        yield Problem(member.path, Severity.ERROR, kind_of(damage), str(damage))


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
