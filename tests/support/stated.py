"""Layers and chains that exist only as statements: what a file would hold, without the file.

The model beside them is the disk byte by byte: the kind, the layer, and the byte itself.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from vdifs.chain.flattening import AT_ONCE
from vdifs.chain.open_chain import Chain, Member
from vdifs.extents import NO_FILE, Extents, Kind
from vdifs.formats.flat_layer import FlatState
from vdifs.formats.image_format import Metadata
from vdifs.formats.load import Load
from vdifs.formats.raw import RAW
from vdifs.ranges import Ranges
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.host_file import HostFile

GRAIN = 64
SECTOR = 512
KINDS = [Kind.UNALLOCATED, Kind.ZERO, Kind.DATA]
READ_KINDS = [*KINDS, Kind.COMPRESSED]
"""Those that decide what is read; the others are for maps."""

Run = tuple[int, Kind, int]  # length, kind, host offset


@dataclass(frozen=True)
class StatedLayer:
    """A Layer that holds `runs`, from offset 0 up to its virtual size; number: of its file."""

    runs: tuple[Run, ...]
    number: int = 0
    has_backing: bool = True
    nbytes: int = 0
    compressed: None = None

    @cached_property
    def virtual_size(self) -> int:
        return sum(length for length, _, _ in self.runs)

    @property
    def state(self) -> FlatState:
        return FlatState(self.virtual_size)

    def whole(self) -> Extents:
        start = np.cumsum([0, *(length for length, _, _ in self.runs[:-1])])
        kinds = [kind for _, kind, _ in self.runs]
        file = [NO_FILE if kind == Kind.UNALLOCATED else 0 for kind in kinds]
        host = [host for _, _, host in self.runs]
        return Extents(
            start.astype(np.int64),
            np.array(kinds, np.uint8),
            np.array(file, np.int16),
            np.array(host, np.int64),
            self.virtual_size,
        )

    def extents(self, start: int, end: int) -> Extents:
        assert 0 <= start < end <= self.virtual_size
        return self.whole().between(start, end)

    @cached_property
    def load(self) -> Load:
        return Load(self.populated(), GRAIN)

    @property
    def identity(self) -> Hashable:
        return self.number, *self.runs

    def details(self, start: int, end: int) -> Extents:
        return self.extents(start, end)

    def hosts(self) -> list[tuple[Kind, int]]:
        """Return the kind and host offset of each grain, one after the other."""
        return [
            (kind, host + at if kind == Kind.DATA else host)
            for length, kind, host in self.runs
            for at in range(0, length, GRAIN)
        ]

    def populated(self) -> npt.NDArray[np.int64]:
        edges = pairwise(np.cumsum([0, *(length for length, _, _ in self.runs)]).tolist())
        held = [edge for edge, run in zip(edges, self.runs, strict=True) if run[1] != Kind.UNALLOCATED]
        return Ranges.union(np.array(held, np.int64).reshape(-1, 2)).rows


@dataclass(frozen=True, eq=False)
class StatedFile:
    """A file of endless data, none of it zero, in which each byte tells its place and its file."""

    number: int
    name: str = "stated"

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(1, self.number, 1 << 40, self.number, 0)

    def readinto_at(self, offset: int, buffer: memoryview, *, wait: bool = True) -> None:
        at = np.arange(offset, offset + len(buffer))
        buffer[:] = ((at * 7 + at // SECTOR * 13 + self.number * 101) % 255 + 1).astype(np.uint8).tobytes()

    def read_at(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.readinto_at(offset, memoryview(buffer))
        return bytes(buffer)

    def check_unchanged(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class StatedChain:
    """Layers, top first, with the chain that they make."""

    layers: tuple[StatedLayer, ...]
    at_once: int = AT_ONCE

    @property
    def chain(self) -> Chain:
        files = [cast(HostFile, StatedFile(layer.number)) for layer in self.layers]
        return Chain(
            tuple(
                Member(f"{n}", files[n], (files[n],), Metadata(RAW, layer.virtual_size), layer)
                for n, layer in enumerate(self.layers)
            ),
            self.at_once,
        )

    def above(self, base: int) -> "StatedChain":
        return StatedChain(self.layers[:base], self.at_once)

    def below(self, base: int) -> "StatedChain":
        return StatedChain(self.layers[base:], self.at_once)

    def grains(self) -> list[tuple[Kind, int, int]]:
        """Return kind, index of the layer and host offset of each grain of the disk, looked up from the top down.

        A layer reads as zeros beyond its end, as QEMU reads a shorter backing file.
        """
        held = [layer.hosts() for layer in self.layers]
        return [_look_up(held, at) for at in range(self.layers[0].virtual_size // GRAIN)]

    def kinds(self) -> list[Kind]:
        """Return the kind of each grain of the disk."""
        return [kind for kind, _, _ in self.grains()]

    def contents(self) -> bytes:
        """Return the guest contents."""
        return b"".join(
            StatedFile(self.layers[index].number).read_at(host, GRAIN) if kind == Kind.DATA else bytes(GRAIN)
            for kind, index, host in self.grains()
        )


def _look_up(held: list[list[tuple[Kind, int]]], at: int) -> tuple[Kind, int, int]:
    for index, grains in enumerate(held):
        kind, host = grains[at] if at < len(grains) else (Kind.ZERO, 0)
        if kind != Kind.UNALLOCATED:
            return kind, index, host
    return Kind.UNALLOCATED, NO_FILE, 0


@st.composite
def layers(draw: st.DrawFn, sectors: int = 24, number: int = 0) -> StatedLayer:
    """Draw a layer of whole sectors; its runs end at any multiple of GRAIN."""
    left = draw(st.integers(0, sectors)) * SECTOR // GRAIN
    runs: list[Run] = []
    while left:
        length = min(draw(st.sampled_from([1, 3, 8, 16, 24, 64, 600])), left)
        kind = draw(st.sampled_from(KINDS))
        host = (1000 * len(runs) + draw(st.integers(0, 9))) * GRAIN if kind == Kind.DATA else 0
        runs.append((length * GRAIN, kind, host))
        left -= length
    return StatedLayer(tuple(runs), number)


@st.composite
def stated_chains(draw: st.DrawFn, depths: Sequence[int] = (1, 2, 3)) -> StatedChain:
    """Draw a chain; each layer is of its own size, and the disk may be resolved in many parts.

    Some disks are long enough for several L2 tables of small clusters.
    """
    sectors = draw(st.sampled_from([24, 24, 24, 160]))
    drawn = [draw(layers(sectors, number)) for number in range(draw(st.sampled_from(depths)))]
    return StatedChain(tuple(drawn), draw(st.sampled_from([AT_ONCE, AT_ONCE, 8, 32, 128])))


def rows(extents: Extents) -> Iterable[tuple[int, int, Kind, int, int]]:
    """Yield (start, stop, kind, file, host) of each run."""
    columns = (extents.start, extents.stop, extents.kind, extents.file, extents.host)
    for start, stop, kind, file, host in zip(*(column.tolist() for column in columns), strict=True):
        yield start, stop, Kind(kind), file, host
