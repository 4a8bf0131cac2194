"""The layers of an image, top first: opened once under a policy, read as one disk, one generation.

layer 0  top        |==|----|00|----------|==|
layer 1             |------|=====|--------|          shorter: ZERO beyond its end, nothing below shows there
layer 2  bottom     |=======|-------|=======|00|
"""

import errno
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import ChainError, FormatError, PolicyError, UnsupportedError, VdifsError
from vdifs.extents import NO_LAYER, Extents, Kind
from vdifs.qcow2.extensions import has_end_mark
from vdifs.qcow2.geometry import MAX_CLUSTER_BITS
from vdifs.qcow2.header import MAGIC, Header, Incompatible
from vdifs.source.hostfile import Fingerprint, HostFile
from vdifs.source.layer import Layer, RawLayer
from vdifs.source.policy import Policy
from vdifs.source.qcow2_layer import Qcow2Layer

__all__ = ["MAX_DEPTH", "RAW_SUFFIXES", "Chain", "Member", "read_header", "union"]

MAX_DEPTH = 256
RAW_SUFFIXES = (".raw", ".img")
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a chain. header: None for a raw file."""

    path: str
    file: HostFile
    header: Header | None
    layer: Layer

    @property
    def format(self) -> str:
        """The format's name as QEMU writes it."""
        return "raw" if self.header is None else "qcow2"


class Chain:
    """An open chain. A context manager; safe to use from several threads."""

    def __init__(self, members: tuple[Member, ...]) -> None:
        """Take over `members`, top first."""
        self.members = members
        self.virtual_size = members[0].layer.virtual_size

    @classmethod
    def open(cls, policy: Policy, path: str) -> Self:
        """Open the image PATH and its backing files.

        Raises FormatError, UnsupportedError, PolicyError, StorageError, and ChainError for a chain with a missing
        member, one that contains a file twice, or one of more than 256 files.
        """
        with ExitStack() as stack:
            members = _open_members(policy, path, stack.callback)
            stack.pop_all()
        return cls(members)

    def close(self) -> None:
        """Close every file."""
        for member in self.members:
            member.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """The generation: the fingerprint of every file, top first."""
        return tuple(member.file.fingerprint for member in self.members)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if any file is another than when it was opened."""
        for member in self.members:
            member.file.check_unchanged()

    def index_of(self, path: str) -> int:
        """Return the index of the member PATH, 0 for the image itself. Raises ChainError if it is not in the chain."""
        for index, member in enumerate(self.members):
            if member.path == path:
                return index
        names = ", ".join(member.file.name for member in self.members[1:]) or "none"
        raise ChainError(
            f"{self.members[0].file.name}: {path} is not in its chain: give one of its ancestors as base ({names})",
            errno=errno.EINVAL,
        )

    def extents(self, start: int, end: int, layers: slice = slice(None)) -> Extents:
        """Return what the consecutive `layers` hold of [start, end), not empty and within the virtual size.

        What is UNALLOCATED in the result no layer among them holds. A layer that is a backing file is ZERO beyond its
        end, as in QEMU. The `layer` column holds indices into `members`.
        """
        found = Extents.uniform(start, end, Kind.UNALLOCATED)
        first = layers.start or 0
        for index, member in enumerate(self.members[layers], first):
            found = found.over(_layer_extents(member.layer, index, start, end))
            if not found.has(Kind.UNALLOCATED):
                break
        return found

    def populated(self, layers: slice = slice(None)) -> NDArray[np.int64]:
        """Return the ranges outside of which `layers` hold nothing but, perhaps, the zeros beyond `zero_from`.

        int64, shape (n, 2), sorted, apart, within the virtual size.
        """
        ranges = [np.empty((0, 2), np.int64)] + [member.layer.populated() for member in self.members[layers]]
        return union(np.minimum(np.concatenate(ranges), self.virtual_size))

    def zero_from(self, layers: slice = slice(None)) -> int:
        """Return where the first backing file among `layers` ends: from there on nothing is UNALLOCATED."""
        ends = [self.virtual_size, *(member.layer.virtual_size for member in self.members[layers])]
        return min(ends)

    @property
    def max_range(self) -> int:
        """The most bytes, a power of two, that one call of `extents` should ask for."""
        return min(member.layer.max_range for member in self.members)


def read_header(file: HostFile) -> Header | None:
    """Return the header of `file`, None if it does not start with the qcow2 magic.

    Raises FormatError, UnsupportedError, with the file's name in front.
    """
    head = file.read_at(0, min(_HEAD, file.size))
    if head[:4] != MAGIC:
        return None
    try:
        bits = int.from_bytes(head[20:24], "big")
        if len(head) == _HEAD and 12 < bits <= MAX_CLUSTER_BITS and _reaches_beyond(head):
            head = file.read_at(0, min(1 << bits, file.size))
        return Header.parse(head)
    except FormatError as error:
        raise type(error)(f"{file.name}: {error}") from error


def _reaches_beyond(head: bytes) -> bool:
    """Tell whether header extensions or the backing file name may lie beyond the first 4 KiB."""
    name_end = int.from_bytes(head[8:16], "big") + int.from_bytes(head[16:20], "big")
    length = int.from_bytes(head[100:104], "big") if head[7] >= 3 else 72
    return name_end > len(head) or not has_end_mark(head[length:])


def _open_members(policy: Policy, path: str, on_failure: Callable[[Callable[[], None]], object]) -> tuple[Member, ...]:
    members: list[Member] = []
    seen: set[tuple[int, int]] = set()
    stated: str | None = None
    while True:
        try:
            file = policy.open(path)
        except VdifsError as error:
            if not members:
                raise
            raise _broken_link(members[-1], error) from error
        on_failure(file.close)
        if file.fingerprint[:2] in seen:
            raise ChainError(
                f"{file.name}: it is in its own chain: rebase one of the images that name it", errno=errno.ELOOP
            )
        if len(members) == MAX_DEPTH:
            raise ChainError(
                f"{file.name}: the chain above it has {MAX_DEPTH} images already: commit some", errno=errno.ELOOP
            )
        seen.add(file.fingerprint[:2])
        member = _member(path, file, stated, top=not members)
        members.append(member)
        if member.header is None or member.header.backing_file is None:
            return tuple(members)
        path, stated = policy.resolve(path, member.header.backing_file), member.header.backing_format


def _broken_link(overlay: Member, error: VdifsError) -> VdifsError:
    """Return the error that opening the backing file of `overlay` gave, saying who names it."""
    kind = PolicyError if isinstance(error, PolicyError) else ChainError
    code = error.errno if error.errno in (errno.EACCES, errno.ELOOP) else errno.EIO
    return kind(f"{overlay.file.name}: its backing file cannot be opened: {error}", errno=code)


def _member(path: str, file: HostFile, stated: str | None, *, top: bool) -> Member:
    if stated == "raw":
        return Member(path, file, None, RawLayer(file))
    if stated not in (None, "qcow2"):
        raise UnsupportedError(f"{file.name}: its overlay states the format {stated!r}: only qcow2 and raw are read")
    header = read_header(file)
    if header is not None:
        _check_readable(file, header)
        return Member(path, file, header, Qcow2Layer(file, header))
    if top and path.endswith(RAW_SUFFIXES):
        return Member(path, file, None, RawLayer(file))
    if top or stated == "qcow2":
        raise FormatError(f"{file.name}: not a qcow2 image: its first bytes are not 'QFI\\xfb'")
    raise PolicyError(
        f"{file.name}: its overlay states no format and it is no qcow2 image: it is not taken for raw unless stated; "
        "state it with 'qemu-img rebase -u -F raw'"
    )


def _check_readable(file: HostFile, header: Header) -> None:
    if header.incompatible_features & Incompatible.DATA_FILE:
        raise UnsupportedError(f"{file.name}: it keeps its data in an external data file, which is not supported yet")


def _layer_extents(layer: Layer, index: int, start: int, end: int) -> Extents:
    """Return the layer's own extents under its index, ZERO beyond its end."""
    size = layer.virtual_size
    if start >= size:
        return Extents.uniform(start, end, Kind.ZERO, index)
    own = layer.extents(start, min(end, size))
    if index:
        marks = np.where(own.layer == NO_LAYER, np.int16(NO_LAYER), np.int16(index))
        own = Extents(own.start, own.kind, marks, own.host, own.end)
    if end <= size:
        return own
    return Extents.joined([own, Extents.uniform(size, end, Kind.ZERO, index)])


def union(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return overlapping and touching ranges as one each, sorted, without the empty ones: int64, shape (n, 2)."""
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    if not len(ranges):
        return ranges
    ranges = ranges[ranges[:, 0].argsort(kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    first = np.flatnonzero(np.append(True, ranges[1:, 0] > reach[:-1]))
    last = np.append(first[1:], len(ranges)) - 1
    return np.stack([ranges[first, 0], reach[last]], 1)
