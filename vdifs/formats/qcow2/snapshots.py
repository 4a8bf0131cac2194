"""The table of internal snapshots, and the names under which vdifs shows them."""

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vdifs.errors import FormatError
from vdifs.formats.qcow2.extensions import decode_name
from vdifs.formats.qcow2.header import Header
from vdifs.units import round_up

__all__ = ["Named", "Snapshot", "each_snapshot", "parse_snapshots", "snapshot_labels"]

_FIXED = struct.Struct(">QIHHIIQII")
_EXTRA = struct.Struct(">QQQ")
_MAX_EXTRA = 1024
_BLANKS_AT_ONCE = 4096
_MAX_TABLE = 64 << 20
"""QEMU's QCOW_MAX_SNAPSHOTS_SIZE."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One entry, the fields in spec order. disk_size: None where a version 2 image does not record it."""

    l1_table_offset: int
    l1_size: int
    id: str
    name: str
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    vm_state_size: int
    disk_size: int | None = None
    icount: int | None = None


class Named(Protocol):
    """What a label is made of: the ID and the name of a snapshot."""

    @property
    def id(self) -> str:
        """The ID."""

    @property
    def name(self) -> str:
        """The name."""


def each_snapshot(header: Header, read: Callable[[int, int], bytes]) -> Iterator[Snapshot]:
    """Yield the snapshots of an image; read(offset, length) gives bytes of its file, zeros beyond the end.

    Follows qcow2_read_snapshots, but for entries of nothing but zeros, which are left out: they have no name and no L1
    table, and a hole of a small file may claim 65,536. Raises FormatError for an entry, or a table, that is too large.
    """
    index, at = 0, header.snapshots_offset
    while index < header.nb_snapshots:
        if blank := _blank_entries(header.nb_snapshots - index, at, read):
            index, at = index + blank, at + blank * _FIXED.size
            continue
        snapshot, size = _parse_entry(index, at, read)
        index, at = index + 1, at + round_up(size, 8)
        if at - header.snapshots_offset > _MAX_TABLE:
            raise FormatError(f"the snapshot table is longer than {_MAX_TABLE} bytes")
        yield snapshot


def parse_snapshots(header: Header, read: Callable[[int, int], bytes]) -> tuple[Snapshot, ...]:
    """Return all that `each_snapshot` yields."""
    return tuple(each_snapshot(header, read))


def snapshot_labels(snapshots: Sequence[Named]) -> tuple[str, ...]:
    """Return what stands behind the `@` of each snapshot's image name: its name, or NAME~ID where names are shared.

    No two are the same: one that an earlier snapshot has got goes on with `~ID` and, if that is not enough, its place.
    """
    uses = Counter(snapshot.name for snapshot in snapshots)
    wanted = [_escaped(s.name) if uses[s.name] == 1 else f"{_escaped(s.name)}~{_escaped(s.id)}" for s in snapshots]
    taken, labels = set(wanted), dict[str, None]()
    for place, (label, snapshot) in enumerate(zip(wanted, snapshots, strict=True), 1):
        free = label
        if label in labels:
            free = f"{label}~{_escaped(snapshot.id)}"
            while free in taken:
                free += f"~{place}"
            taken.add(free)
        labels[free] = None
    return tuple(labels)


def _blank_entries(most: int, at: int, read: Callable[[int, int], bytes]) -> int:
    """Return how many entries from `at` on, `most` of them at the most, are nothing but zeros."""
    found, step = 0, 1
    while found < most:
        count = min(step, most - found)
        zeros = count * _FIXED.size - len(read(at + found * _FIXED.size, count * _FIXED.size).lstrip(b"\0"))
        found += zeros // _FIXED.size
        if zeros < count * _FIXED.size:
            break
        step = _BLANKS_AT_ONCE
    return found


def _parse_entry(index: int, at: int, read: Callable[[int, int], bytes]) -> tuple[Snapshot, int]:
    fixed = read(at, _FIXED.size)
    l1_offset, l1_size, id_size, name_size, sec, nsec, clock, state_size, extra_size = _FIXED.unpack(fixed)
    if extra_size > _MAX_EXTRA:
        raise FormatError(f"snapshot {index} at {at:#x} has {extra_size} bytes of extra data, at most {_MAX_EXTRA}")
    rest = read(at + _FIXED.size, extra_size + id_size + name_size)
    extra, id_end = rest[:extra_size], extra_size + id_size
    large_state, disk_size, icount = _EXTRA.unpack(extra[: _EXTRA.size].ljust(_EXTRA.size, b"\0"))
    snapshot = Snapshot(
        l1_table_offset=l1_offset,
        l1_size=l1_size,
        id=decode_name(rest[extra_size:id_end]),
        name=decode_name(rest[id_end:]),
        date_sec=sec,
        date_nsec=nsec,
        vm_clock_nsec=clock,
        vm_state_size=large_state if extra_size >= 8 else state_size,
        disk_size=disk_size if extra_size >= 16 else None,
        icount=icount if extra_size >= 24 else None,
    )
    return snapshot, _FIXED.size + len(rest)


def _escaped(name: str) -> str:
    """Return `name` as part of a file name: `/`, `%` and control characters percent-encoded."""
    return "".join(f"%{ord(c):02X}" if c in "/%" or c < " " or c == "\x7f" else c for c in name)
