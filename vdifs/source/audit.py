"""Every problem of an image, with a severity: what opening refuses, and what QEMU and vdifs read but should not be.

An ERROR keeps the image from being served. A WARNING does not, but somebody should look. A NOTE is worth knowing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import ChainError, FormatError, PolicyError, StorageError, UnsupportedError, VdifsError
from vdifs.qcow2.entries import host_clusters, l1_reserved_bits, reserved_bits
from vdifs.qcow2.geometry import ceil_div
from vdifs.qcow2.header import Header, Incompatible
from vdifs.source.chain import Chain
from vdifs.source.members import Member
from vdifs.source.policy import Policy
from vdifs.source.qcow2_layer import Qcow2Layer

__all__ = ["Problem", "Severity", "audit"]


_HITS_KEPT = 16


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


def audit(policy: Policy, path: str, snapshot: str | None = None) -> list[Problem]:
    """Return the problems of the image PATH and of its chain, as far as its tables tell; no guest data are read."""
    name = path if snapshot is None else f"{path}@{snapshot}"
    try:
        chain = Chain.open(policy, path, snapshot)
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
    ]
    return next((kind for class_, kind in kinds if isinstance(error, class_)), "changing")


def _of_member(chain: Chain, depth: int) -> Iterator[Problem]:
    member = chain.members[depth]

    def problem(severity: Severity, kind: str, message: str) -> Problem:
        return Problem(member.path, severity, kind, f"{member.file.name}: {message}")

    sizes = [other.layer.virtual_size for other in chain.members]
    if depth and sizes[depth] < sizes[depth - 1]:
        hides = any(size > sizes[depth] for size in sizes[depth + 1 :])
        severity, kind = (Severity.WARNING, "shrunk") if hides else (Severity.NOTE, "shorter")
        yield problem(severity, kind, f"it ends at {sizes[depth]}, before its overlay: from there on zeros are read")
    if member.header is None:
        return
    yield from _of_header(member.header, problem, has_overlay=depth > 0)
    assert isinstance(member.layer, Qcow2Layer), "a member with a header is a qcow2"
    try:
        yield from _of_tables(member, member.header, member.layer, problem)
    except VdifsError as error:
        yield Problem(member.path, Severity.ERROR, kind_of(error), str(error))


def _of_header(
    header: Header, problem: Callable[[Severity, str, str], Problem], *, has_overlay: bool
) -> Iterator[Problem]:
    if header.incompatible_features & Incompatible.DIRTY:
        what = "it is marked dirty: its refcounts may be wrong, which no reader needs: 'qemu-img check -r all'"
        yield problem(Severity.WARNING, "dirty", what)
    if header.backing_file and header.backing_format is None:
        what = "it does not state the format of its backing file: state it with 'qemu-img rebase -u -F'"
        yield problem(Severity.WARNING, "unstated-format", what)
    if header.hidden and not has_overlay:
        yield problem(Severity.NOTE, "hidden", "it is marked hidden, and no image of this chain is above it")


def _of_tables(
    member: Member, header: Header, layer: Qcow2Layer, problem: Callable[[Severity, str, str], Problem]
) -> Iterator[Problem]:
    tables = _table_clusters(member, header, layer)
    twice = tables[1:][tables[1:] == tables[:-1]]
    if len(twice):
        where = int(twice[0]) << header.cluster_bits
        yield problem(Severity.WARNING, "overlap", f"two of its tables overlap at {where:#x}: restore it from a copy")
    reserved = int(np.count_nonzero(l1_reserved_bits(member.file.read_at(header.l1_table_offset, header.l1_size * 8))))
    hits: list[int] = []
    for start, end in layer.groups(0, layer.virtual_size):
        layer.extents(start, end)
        entries = layer.entries(start, end)
        reserved += int(np.count_nonzero(reserved_bits(entries, layer.geometry)))
        if member.data is member.file:
            clusters = host_clusters(entries, layer.geometry)
            hits += clusters[np.isin(clusters, tables)].tolist()[: _HITS_KEPT - len(hits)]
    if reserved:
        yield problem(Severity.NOTE, "reserved-bits", f"{reserved} L1 or L2 entries have reserved bits set: ignored")
    if hits:
        what = f"guest data lie on its own tables, first at {hits[0] << header.cluster_bits:#x}"
        yield problem(Severity.WARNING, "overlap", f"{what}: restore it from a copy")


def _table_clusters(member: Member, header: Header, layer: Qcow2Layer) -> NDArray[np.int64]:
    """Return the indices of the clusters that header and tables fill: int64, sorted, with repetitions."""
    size = header.cluster_size
    refcounts = (header.refcount_table_offset, header.refcount_table_clusters * size)
    areas = [(0, size), (header.l1_table_offset, header.l1_size * 8), refcounts]
    parts = [np.arange(at // size, ceil_div(at + length, size), dtype=np.int64) for at, length in areas if length]
    blocks = np.frombuffer(member.file.read_at(*refcounts), ">u8").astype(np.int64) >> header.cluster_bits
    return np.sort(np.concatenate([*parts, blocks[blocks > 0], layer.l2_offsets >> header.cluster_bits]))
