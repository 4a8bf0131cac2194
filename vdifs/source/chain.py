"""The layers of an image, top first: read as one disk, one generation.

layer 0  top        |==|----|00|----------|==|
layer 1             |------|=====|--------|          shorter: ZERO beyond its end, nothing below shows there
layer 2  bottom     |=======|-------|=======|00|
"""

import errno
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import ChainError
from vdifs.extents import NO_LAYER, Extents, Kind
from vdifs.source.hostfile import Fingerprint
from vdifs.source.layer import Layer
from vdifs.source.members import Member, open_members
from vdifs.source.policy import Policy

__all__ = ["Chain", "Member", "union"]

_RUNS_AT_ONCE = 1 << 17
"""So many runs of all layers together are made at once."""


class Chain:
    """An open chain. A context manager; safe to use from several threads."""

    def __init__(self, members: tuple[Member, ...]) -> None:
        """Take over `members`, top first."""
        self.members = members
        self.virtual_size = members[0].layer.virtual_size

        self.files = tuple(dict.fromkeys(file for member in members for file in (member.file, member.data)))
        """Every file of the chain, data files included, each once."""

    @classmethod
    def open(cls, policy: Policy, path: str, snapshot: str | None = None, *, stated: str | None = None) -> Self:
        """Open the image PATH, or its internal `snapshot`, and its backing files. Raises what open_members does.

        stated: the format of PATH where it is known, such as that of a raw backing file, whatever its name.
        """
        with ExitStack() as opened:
            members = open_members(policy, path, snapshot, opened, stated)
            opened.pop_all()
        return cls(members)

    def close(self) -> None:
        """Close every file; more than once is harmless."""
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """The generation: the fingerprint of every file, top first."""
        return tuple(file.fingerprint for file in self.files)

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if any file is another than when it was opened."""
        for file in self.files:
            file.check_unchanged()

    def was(self, fingerprints: tuple[Fingerprint, ...], *, settled: bool) -> bool:
        """Tell whether these describe what the chain holds now: `HostFile.was` of each file."""
        return len(fingerprints) == len(self.files) and all(
            file.was(each, settled=settled) for file, each in zip(self.files, fingerprints, strict=True)
        )

    def check_no_writer(self) -> None:
        """Raise InUseError if a virtual machine is writing any file now."""
        for file in self.files:
            file.check_no_writer()

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
        if not (members := self.members[layers]):
            return Extents.uniform(start, end, Kind.UNALLOCATED)
        first = layers.start or 0
        return Extents.stacked(
            _layer_extents(member.layer, index, start, end) for index, member in enumerate(members, first)
        )

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
        """The most bytes, a power of two, that one call of `extents` should ask for: no layer's memory is large then.

        Nor is what many layers hold side by side: a range of n times the finest grain has n runs at most.
        """
        layers = [member.layer for member in self.members]
        most = min(layer.max_range for layer in layers)
        if sum(layer.most_runs for layer in layers) <= _RUNS_AT_ONCE:
            return most
        size = min(layer.grain for layer in layers) * _RUNS_AT_ONCE // 2
        while size < most and sum(min(2 * size // layer.grain, layer.most_runs) for layer in layers) <= _RUNS_AT_ONCE:
            size *= 2
        return min(size, most)


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
    if len(ranges) < 2:
        return ranges
    ranges = ranges[ranges[:, 0].argsort(kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    first = np.flatnonzero(np.append(True, ranges[1:, 0] > reach[:-1]))
    last = np.append(first[1:], len(ranges)) - 1
    return np.stack([ranges[first, 0], reach[last]], 1)
