"""What a range of guest disk is made of, and how layers overlay.

The one idea that the rest stands on: a range of a disk is a sorted array of runs, without gaps. Cluster sizes,
subclusters, raw files and odd disk sizes all become runs here, so no other code has a case for them.

    top      |==DATA==|--------UNALLOCATED-------|0000ZERO0000|
    bottom   |-----|========DATA========|--------|====DATA====|
    over     |==DATA==|=======DATA======|--------|0000ZERO0000|
               top       bottom, host moved on        top

Pure: numpy only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import led_by, then

__all__ = ["NO_FILE", "Extents", "Kind", "MapKind", "Stack"]

NO_FILE = -1
_BARE = -2

_Columns = tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int16], NDArray[np.int64]]
"""start, kind, file and host of runs: those of `Extents`, but with gaps."""


class Kind(IntEnum):
    """What is read of a run of guest disk, as one layer or a whole chain says."""

    UNALLOCATED = 0
    ZERO = 1
    DATA = 2
    COMPRESSED = 3


class MapKind(IntEnum):
    """What a map shows of a run: what is read, as in `Kind`, and what else a layer or a chain knows of it."""

    UNALLOCATED = Kind.UNALLOCATED
    ZERO = Kind.ZERO
    DATA = Kind.DATA
    COMPRESSED = Kind.COMPRESSED
    UNALLOCATED_ALLOC = 4
    """UNALLOCATED, with a place in the file."""
    ZERO_ALLOC = 5
    """ZERO, with a place in the file."""
    DATA_HOLE = 6
    """DATA in a hole of the file, which read as zeros."""
    ABSENT = 7
    """In no layer of the chain."""
    ABSENT_ALLOC = 8
    """In no layer of the chain, with a place in the lowest file."""


_HAS_OFFSET = np.array([
    kind not in {MapKind.UNALLOCATED, MapKind.ZERO, MapKind.COMPRESSED, MapKind.ABSENT} for kind in MapKind
])  # fmt: skip
"""By kind: whether `host` is an offset that goes on with the guest offset."""


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """Runs that cover [start[0], end) without gaps, in four parallel arrays of one length >= 1.

    start: int64, strictly increasing guest offsets in bytes. kind: uint8, `Kind`, of a map `MapKind`. file: int16, the
    index of the file that answers, of a layer's files or those of a whole chain; `NO_FILE` where no layer answers.
    host: int64, DATA and what else has a place: the host offset of the run's first byte in that file; COMPRESSED: a
    token that its layer knows a compressed unit by, the same for every part of it; otherwise 0.
    """

    start: NDArray[np.int64]
    kind: NDArray[np.uint8]
    file: NDArray[np.int16]
    host: NDArray[np.int64]
    end: int

    @classmethod
    def uniform(cls, start: int, end: int, kind: Kind | MapKind, file: int = NO_FILE, host: int = 0) -> Self:
        """Return one run."""
        return cls(
            np.array([start], np.int64),
            np.array([kind], np.uint8),
            np.array([file], np.int16),
            np.array([host], np.int64),
            end,
        )

    def __len__(self) -> int:
        return len(self.start)

    @property
    def stop(self) -> NDArray[np.int64]:
        """Where each run ends: int64, the next run's start, `end` for the last."""
        return then(self.start[1:], self.end)

    @property
    def length(self) -> NDArray[np.int64]:
        """Bytes in each run: int64."""
        return self.stop - self.start

    @property
    def has_offset(self) -> NDArray[np.bool_]:
        """Tell of each run whether `host` is the offset of its first byte: bool."""
        return _HAS_OFFSET[self.kind]

    def has(self, kind: Kind | MapKind) -> bool:
        """Tell whether any run is of `kind`."""
        return bool((self.kind == kind).any())

    def between(self, start: int, end: int) -> "Extents":
        """Return the part [start, end), which must be within this range and not empty."""
        first = int(self.start.searchsorted(start, "right")) - 1
        last = int(self.start.searchsorted(end, "left"))
        return self._take(np.arange(first, last), led_by(start, self.start[first + 1 : last]), end)

    def cut(self, at: NDArray[np.int64]) -> "Extents":
        """Return the same runs, cut also at the offsets `at`: int64, sorted, within [start[0], end)."""
        return self._starting_at(_merged_offsets(self.start, at))

    def over(self, below: "Extents") -> "Extents":
        """Overlay this range on `below`, which covers the same range: what is UNALLOCATED here is what is there."""
        holes = self.kind == Kind.UNALLOCATED
        if not holes.any():
            return self
        if holes.all():
            return below
        starts = _merged_offsets(self.start, below.start)
        mine, theirs = self._starting_at(starts), below._starting_at(starts)
        bare = mine.kind == Kind.UNALLOCATED
        return Extents(
            starts,
            np.where(bare, theirs.kind, mine.kind),
            np.where(bare, theirs.file, mine.file),
            np.where(bare, theirs.host, mine.host),
            self.end,
        ).merged()

    def unlike(self, base: "Extents", shared: NDArray[np.int16], first_file: int) -> "Extents":
        """Return what this range holds that reads otherwise in `base`, which covers the same range.

        Both are resolved: what is UNALLOCATED reads as zeros, and is held as ZERO, by file 0, where the base has data.
        shared: int16, for each file of this range its index among those of the base, NO_FILE for none. Where both show
        the same place of one file, or both nothing, the result has the run of the base, its files from `first_file` on.

            self     |==A 0==|00000000|==A 8==|--------|
            base     |==A 0==|==B 4===|==A 9==|00000000|
            result   |++A 0++|00000000|==A 8==|--------|      +: in a file from `first_file` on
        """
        starts = _merged_offsets(self.start, base.start)
        mine, theirs = self._starting_at(starts), base._starting_at(starts)
        no_data = mine.kind < Kind.DATA
        nothing = no_data & (theirs.kind < Kind.DATA)
        same = ~no_data & (mine.kind == theirs.kind) & (mine.host == theirs.host)
        same &= shared[mine.file] == theirs.file
        kind = np.where(no_data, np.uint8(Kind.ZERO), mine.kind)
        kind[nothing] = Kind.UNALLOCATED
        file = np.where(no_data, np.int16(0), mine.file)
        file[nothing] = NO_FILE
        file[same] = theirs.file[same] + np.int16(first_file)
        host = np.where(no_data, 0, mine.host)
        return Extents(starts, kind, file, host, self.end).merged()

    @staticmethod
    def stacked(layers: "Iterator[Extents]") -> "Extents":
        """Return layers of one range, top first, at least one, each `over` the next. Takes no more than are needed."""
        top = next(layers)
        stack = Stack(int(top.start[0]), top.end)
        stack.add(top)
        while stack.is_bare and (below := next(layers, None)) is not None:
            stack.add(below)
        return stack.extents()

    def merged(self) -> "Extents":
        """Return the fewest runs that say the same: neighbours that continue one another become one.

        COMPRESSED runs merge only with parts of the same unit (one token).
        """
        if len(self) == 1:
            return self
        same = (self.kind[1:] == self.kind[:-1]) & (self.file[1:] == self.file[:-1])
        moved = np.where(self.has_offset[:-1], self.start[1:] - self.start[:-1], 0)
        same &= self.host[1:] == self.host[:-1] + moved
        if not same.any():
            return self
        keep = led_by(True, ~same)
        return Extents(self.start[keep], self.kind[keep], self.file[keep], self.host[keep], self.end)

    @staticmethod
    def joined(parts: "list[Extents]") -> "Extents":
        """Return neighbouring ranges, at least one, as a single range."""
        if len(parts) == 1:
            return parts[0]
        return Extents(
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.kind for p in parts]),
            np.concatenate([p.file for p in parts]),
            np.concatenate([p.host for p in parts]),
            parts[-1].end,
        ).merged()

    def _within(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> tuple[_Columns, NDArray[np.int64]]:
        """Return the allocated parts of this range within ranges from `starts` to `stops`, and where they end."""
        own = np.flatnonzero(self.kind != Kind.UNALLOCATED)
        begin, finish = self.start[own], self.stop[own]
        first = stops.searchsorted(begin, "right")
        count = starts.searchsorted(finish, "left") - first
        run = own.repeat(count)
        at = np.arange(len(run)) + (first - (count.cumsum() - count)).repeat(count)
        part = self._take(run, np.maximum(self.start[run], starts[at]), self.end)
        return part._columns(), np.minimum(finish.repeat(count), stops[at])

    @staticmethod
    def _unallocated(starts: NDArray[np.int64], mark: int) -> _Columns:
        return starts, np.zeros(len(starts), np.uint8), np.full(len(starts), mark, np.int16), np.zeros_like(starts)

    def _columns(self, rows: "NDArray[np.bool_] | slice" = slice(None)) -> _Columns:
        return self.start[rows], self.kind[rows], self.file[rows], self.host[rows]

    def _starting_at(self, starts: NDArray[np.int64]) -> "Extents":
        """Return the same runs, cut so that they start at `starts`, among which all of theirs are."""
        return self._take(self.start.searchsorted(starts, "right") - 1, starts, self.end)

    def _take(self, index: NDArray[np.intp], starts: NDArray[np.int64], end: int) -> "Extents":
        """Return runs `index` with new starts, at or after their old ones; DATA moves on in its file as far."""
        kind, host = self.kind[index], self.host[index]
        moved = np.where(_HAS_OFFSET[kind], starts - self.start[index], 0)
        return Extents(starts, kind, self.file[index], host + moved, end)


class Stack:
    """Layers of one range that are put beneath one another, top first, each cut to what those above have left bare.

    So it costs nothing how much they have covered, and what they have covered need not be asked of those below.

        added     |==DATA==|        |==DATA==|              |0000ZERO0000|
        bare               |--------|        |--------------|               `starts` and `stops`
    """

    def __init__(self, start: int, end: int) -> None:
        """Hold nothing yet: all of [start, end), which must not be empty, is bare."""
        self.start, self.end = start, end
        self.starts = np.array([start], np.int64)
        """Where the bare ranges start: int64, sorted."""
        self.stops = np.array([end], np.int64)
        """Where the bare ranges end, apart or touching."""
        self._top: Extents | None = None
        self._parts: list[_Columns] = []

    @property
    def is_bare(self) -> bool:
        """Whether anything is bare."""
        return len(self.starts) > 0

    @property
    def runs(self) -> int:
        """How many runs are not bare."""
        return sum(len(part[0]) for part in self._parts)

    @property
    def run_starts(self) -> NDArray[np.int64]:
        """Where the runs that are not bare start: int64, in no order."""
        return np.concatenate([np.empty(0, np.int64), *(part[0] for part in self._parts)])

    def add(self, below: Extents) -> None:
        """Put a layer beneath all others; it must cover what is bare."""
        if not self._parts and below.start[0] == self.start and below.end == self.end and len(self.starts) == 1:
            bare = below.kind == Kind.UNALLOCATED
            self.starts, self.stops = below.start[bare], below.stop[bare]
            self._parts.append(below._columns(~bare))
            self._top = below
            return
        part, ends = below._within(self.starts, self.stops)
        if not len(ends):
            return
        starts, stops = _sorted(self.starts, ends), _sorted(self.stops, part[0])  # what is bare now, and empty ranges
        left = starts < stops
        self.starts, self.stops = starts[left], stops[left]
        self._parts.append(part)
        self._top = None

    def leave(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Leave bare ranges, or parts of them, as they are for good: sorted, apart."""
        if len(starts):
            left = Extents._unallocated(starts, NO_FILE)
            bare, ends = _sorted(self.starts, stops), _sorted(self.stops, starts)
            some = bare < ends
            self.starts, self.stops = bare[some], ends[some]
            self._parts.append(left)
            self._top = None

    def split(self, at: NDArray[np.int64]) -> "list[Stack]":
        """Return the stacks of this range cut at the offsets `at`: sorted, each once, within it. This is cleared."""
        edges = [self.start, *at.tolist(), self.end]
        whole = self._rows()
        self.clear()
        return [Stack._of_rows(whole.between(*pair)) for pair in pairwise(edges)]

    def clear(self) -> None:
        """Free the memory, though a caller may still hold this."""
        self._parts.clear()
        self._top = None
        self.starts = self.stops = np.empty(0, np.int64)

    @classmethod
    def _of_rows(cls, rows: Extents) -> "Stack":
        stack = cls(int(rows.start[0]), rows.end)
        bare = rows.file == _BARE
        stack.starts, stack.stops = rows.start[bare], rows.stop[bare]
        if not bare.all():
            stack._parts.append(rows._columns(~bare))
        return stack

    def extents(self) -> Extents:
        """Return what the layers hold; what is bare is UNALLOCATED."""
        if self._top is not None:
            return self._top
        rows = self._rows()
        rows.file[rows.file == _BARE] = NO_FILE
        return rows.merged()

    def _rows(self) -> Extents:
        """Return the runs, the bare ones marked."""
        parts = [*self._parts, Extents._unallocated(self.starts, _BARE)]
        start, kind, file, host = map(np.concatenate, zip(*parts, strict=True))
        order = start.argsort(kind="stable")
        return Extents(start[order], kind[order], file[order], host[order], self.end)


def _sorted(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the offsets of both; all sorted."""
    both = np.concatenate([one, other])
    both.sort(kind="stable")  # which only merges what is sorted
    return both


def _merged_offsets(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the offsets of both, each once; all sorted. np.union1d says the same and takes ten times as long."""
    both = _sorted(one, other)
    once: NDArray[np.int64] = both[led_by(True, both[1:] != both[:-1])]
    return once
