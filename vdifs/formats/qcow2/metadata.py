"""The metadata of a qcow2 file, read from it: its header, its snapshots, its bitmaps. Each error names the file."""

import errno
from collections.abc import Iterator
from typing import NamedTuple

from vdifs.errors import ChainError, FormatError, printable, quoted
from vdifs.formats.image_format import Front
from vdifs.formats.qcow2.bitmaps import Bitmap, parse_bitmaps
from vdifs.formats.qcow2.extensions import has_end_mark
from vdifs.formats.qcow2.geometry import MAX_CLUSTER_BITS
from vdifs.formats.qcow2.header import Header
from vdifs.formats.qcow2.snapshots import Snapshot, each_snapshot, snapshot_labels
from vdifs.pace import give_way
from vdifs.storage.host_file import HostFile

__all__ = [
    "SnapshotName",
    "each_snapshot_of",
    "find_snapshot",
    "labels_and_sizes",
    "read_bitmaps",
    "read_header",
    "read_snapshots",
]

_AHEAD = 1 << 14


def read_header(front: Front, *, corrupt_too: bool = False) -> Header:
    """Return the header of a qcow2. Raises what Header.parse does, with the file's name in front."""
    file, head = front.file, front.head
    try:
        bits = int.from_bytes(head[20:24], "big")
        if len(head) < file.size and 12 < bits <= MAX_CLUSTER_BITS and _reaches_beyond(head):
            head = file.read_at(0, min(1 << bits, file.size))
        return Header.parse(head, corrupt_too=corrupt_too)
    except FormatError as error:
        raise error.at(file.name) from error


def _reaches_beyond(head: bytes) -> bool:
    """Tell whether header extensions or the backing file name may lie beyond the first 4 KiB."""
    name_end = int.from_bytes(head[8:16], "big") + int.from_bytes(head[16:20], "big")
    length = int.from_bytes(head[100:104], "big") if head[7] >= 3 else 72
    return name_end > len(head) or not has_end_mark(head[length:])


def read_bitmaps(file: HostFile, header: Header) -> tuple[Bitmap, ...]:
    """Return the dirty bitmaps of `file`. Raises FormatError with the file's name in front."""
    try:
        return parse_bitmaps(header, file.read_at)
    except FormatError as error:
        raise error.at(file.name) from error


def find_snapshot(file: HostFile, snapshots: tuple[Snapshot, ...], wanted: str) -> tuple[str, Snapshot]:
    """Return label and entry of the snapshot whose label, else name, else ID, is `wanted`. Raises ChainError."""
    labels = snapshot_labels(snapshots)
    for names in (labels, [s.name for s in snapshots], [s.id for s in snapshots]):
        if wanted in names:
            index = list(names).index(wanted)
            return labels[index], snapshots[index]
    listed = ", ".join(printable(label) for label in labels) or "none"
    raise ChainError(
        f"it has no snapshot {quoted(wanted)}",
        where=file.name,
        remedy=f"choose one of its snapshots ({listed})",
        errno=errno.ENOENT,
    )


class SnapshotName(NamedTuple):
    """What is kept of a snapshot until all labels are known."""

    id: str
    name: str


def read_snapshots(file: HostFile, header: Header) -> tuple[Snapshot, ...]:
    """Return the internal snapshots of `file`. Raises FormatError with the file's name in front."""
    return tuple(each_snapshot_of(file, header))


def labels_and_sizes(file: HostFile, header: Header) -> tuple[tuple[str, int | None], ...]:
    """Return the label of each snapshot, and the size of its disk where it records it. Raises as `read_snapshots`."""
    names, sizes = list[SnapshotName](), list[int | None]()
    for snapshot in each_snapshot_of(file, header):
        names.append(SnapshotName(snapshot.id, snapshot.name))
        sizes.append(snapshot.disk_size)
    return tuple(zip(snapshot_labels(names), sizes, strict=True))


def each_snapshot_of(file: HostFile, header: Header) -> Iterator[Snapshot]:
    try:
        yield from each_snapshot(header, _Ahead(file).read)
    except FormatError as error:
        raise error.at(file.name) from error


class _Ahead:
    """Reads a table from front to back in large parts, and gives way after each."""

    def __init__(self, file: HostFile) -> None:
        self._file = file
        self._start, self._part = 0, b""

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, zeros beyond the end of the file."""
        at = offset - self._start
        if not 0 <= at <= len(self._part) - length:
            give_way()
            self._start, self._part = offset, self._file.read_at(offset, max(length, _AHEAD))
            at = 0
        return self._part[at : at + length]
