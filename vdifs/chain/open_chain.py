"""The layers of an image, top first: read as one disk, one generation.

layer 0  top        |==|----|00|----------|==|
layer 1             |------|=====|--------|          shorter: ZERO beyond its end, nothing below shows there
layer 2  bottom     |=======|-------|=======|00|
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property, partial
from itertools import accumulate
from types import TracebackType
from typing import Self

import numpy as np

from vdifs.chain.flattening import AT_ONCE, Flattening, Source
from vdifs.chain.links import ImageRef
from vdifs.chain.members import Member, open_members
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, UnsupportedError, printable
from vdifs.extents import NO_FILE, Extents, Kind, Stack
from vdifs.formats.layer import Layer
from vdifs.storage.fingerprint import Fingerprint
from vdifs.units import SECTOR

__all__ = ["Chain", "Member"]

_MOST_FILES = (1 << 15) - 1
"""As many as an int16 has indices for."""


class Chain:
    """An open chain. A context manager; safe to use from several threads."""

    paired = False
    """Whether the members are those of two chains: see PairedChain."""

    def __init__(self, members: tuple[Member, ...], at_once: int = AT_ONCE) -> None:
        """Take over `members`, top first; at_once: how much of their tables is looked at together."""
        self.members = members
        self._at_once = at_once
        self.virtual_size = members[0].layer.virtual_size
        self.depth = len(members)
        """Images in the chain."""

        self.files = tuple(dict.fromkeys(file for member in members for file in (member.file, *member.data)))
        """Every file of the chain, data files included, each once."""
        self.data_files = tuple(file for member in members for file in member.data)
        """The files with the guest data of each member in turn: what the `file` column of extents has indices of."""
        self.first_file = tuple(accumulate((len(member.data) for member in members), initial=0))
        """The index of the first of them for each member, and behind the last one how many they are."""
        if len(self.data_files) > _MOST_FILES:
            what = f"its chain has {len(self.data_files)} files: too many"
            raise UnsupportedError(what, where=members[0].file.name)

    @classmethod
    def open(cls, policy: Policy, path: str, snapshot: str | None = None, *, stated: str | None = None) -> Self:
        """Open the image PATH, or its internal `snapshot`, and its backing files. Raises what open_members does.

        stated: the format of PATH where it is known, such as that of a raw backing file, whatever its name.
        """
        with ExitStack() as opened:
            members = open_members(policy, ImageRef(path, snapshot, stated), opened)
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
            f"{printable(path)} is not in its chain",
            where=self.members[0].file.name,
            remedy=f"give one of its ancestors as base ({names})",
            errno=errno.EINVAL,
        )

    def extents(self, start: int, end: int, layers: slice = slice(None)) -> Extents:
        """Return what the consecutive `layers` hold of [start, end), not empty and within the virtual size.

        What is UNALLOCATED in the result no layer among them holds. A layer that is a backing file is ZERO beyond its
        end, as in QEMU. The `file` column holds indices into `data_files`.
        """
        return Extents.joined(list(self.flattening(layers).parts(start, end)))

    def flattening(
        self,
        layers: slice = slice(None),
        *,
        step: int = SECTOR,
        grid: int = SECTOR,
        narrow: Callable[[Stack], None] | None = None,
        narrow_at: int = 0,
    ) -> Flattening:
        """Return what flattens the consecutive `layers` in parts, none of them large. See Flattening."""
        return Flattening(self._sources[layers], step, grid, self._at_once, narrow, narrow_at)

    def in_parts(self, layers: slice = slice(None), *, start: int = 0) -> Iterator[Extents]:
        """Yield what `layers` hold of the disk from `start` on, in parts of no more than some runs."""
        return self.flattening(layers).parts(start, self.virtual_size)

    @cached_property
    def _sources(self) -> tuple[Source, ...]:
        layers = [member.layer for member in self.members]
        return tuple(
            Source(layer.load, partial(_layer_extents, layer, first), layer.virtual_size if layer.has_backing else 0)
            for first, layer in zip(self.first_file[:-1], layers, strict=True)
        )


def _layer_extents(layer: Layer, first_file: int, start: int, end: int) -> Extents:
    """Return the layer's own extents with the indices of its files in the chain, ZERO beyond its end."""
    size = layer.virtual_size
    if start >= size:
        return Extents.uniform(start, end, Kind.ZERO, first_file)
    own = layer.extents(start, min(end, size))
    if first_file:
        files = np.where(own.file == NO_FILE, np.int16(NO_FILE), own.file + np.int16(first_file))
        own = Extents(own.start, own.kind, files, own.host, own.end)
    if end <= size:
        return own
    return Extents.joined([own, Extents.uniform(size, end, Kind.ZERO, first_file)])
