"""The BAT (docs/formats.md, VHDX): entries, read by window, and what they may say. It may have 67 million of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError
from vdifs.formats.vhdx.geometry import Geometry
from vdifs.formats.vhdx.header import MIB, RESTORE
from vdifs.formats.vhdx.replay import ReplayedFile
from vdifs.ranges import Ranges

__all__ = ["AT_ONCE", "Bat", "State", "Window", "hosts_of", "states_of"]

AT_ONCE = 1 << 17
"""So many entries are read together: 1 MiB."""
_ENTRY = 8
_STATE, _RESERVED = np.uint64(7), np.uint64((1 << 20) - 8)


class State(IntEnum):
    """What an entry says of its block; of a bitmap only NOT_PRESENT and PRESENT."""

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    PRESENT = 6
    PARTIAL = 7


_KNOWN = np.isin(np.arange(8), list(State))
_OF_BITMAPS = np.isin(np.arange(8), [State.NOT_PRESENT, State.PRESENT])


def states_of(entries: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the state in each entry: int64."""
    return (entries & _STATE).astype(np.int64)


def hosts_of(entries: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the host offset in each entry, in MiB, which means something in the states PRESENT and PARTIAL: int64."""
    return (entries >> np.uint64(20)).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Some entries in a row. first: the index of the first of them."""

    first: int
    entries: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bat:
    """The BAT at `offset` of a file."""

    file: ReplayedFile
    offset: int
    geometry: Geometry

    def blocks(self, first: int, last: int) -> NDArray[np.uint64]:
        """Return the entries of the blocks [first, last), checked: uint64. Raises FormatError, StorageError."""
        g = self.geometry
        start, stop = g.entry_of_block(first), g.entry_of_block(last - 1) + 1
        window = self._read(start, stop)
        self.check(window)
        return window.entries[~g.is_bitmap(np.arange(start, stop))]

    def bitmap(self, chunk: int) -> int:
        """Return the host offset of the bitmap of a chunk that has one. Raises FormatError, StorageError."""
        index = self.geometry.entry_of_bitmap(chunk)
        window = self._read(index, index + 1)
        if int(states_of(window.entries)[0]) != State.PRESENT:
            what = f"the bitmap of chunk {chunk}, which a partially present block needs, is in no file"
            raise FormatError(what, where=self.file.file.name, remedy=RESTORE)
        return int(hosts_of(window.entries)[0]) * MIB

    def written(self, data: Ranges) -> Iterator[Window]:
        """Yield the entries that are not in holes, some at a time. data: where the file has some, or its log."""
        end = self.geometry.entries
        inside = data.clip(self.offset, self.offset + end * _ENTRY)
        done = 0
        for start, stop in inside.rows.tolist():
            first, last = max(done, (start - self.offset) // _ENTRY), -(-(stop - self.offset) // _ENTRY)
            done = last
            for at in range(first, last, AT_ONCE):
                yield self._read(at, min(at + AT_ONCE, last))

    def check(self, window: Window) -> None:
        """Raise FormatError for an entry within the disk that has reserved bits, or a state that it may not have."""
        index = np.arange(window.first, window.first + len(window.entries))
        states, is_bitmap = states_of(window.entries), self.geometry.is_bitmap(index)
        reserved = (window.entries & _RESERVED) != 0
        unknown = ~np.where(is_bitmap, _OF_BITMAPS[states], _KNOWN[states])
        alone = ~is_bitmap & (states == State.PARTIAL) & (not self.geometry.has_parent)
        within = is_bitmap | (self.geometry.blocks_of(index) < self.geometry.blocks)
        wrong = (reserved | unknown | alone) & within
        if not wrong.any():
            return
        at = int(wrong.argmax())
        state, said = int(states[at]), f"entry {window.first + at} of its BAT is {int(window.entries[at]):#x}"
        if reserved[at]:
            why = "reserved bits are set"
        elif unknown[at]:
            why = f"state {state} means nothing for a {'bitmap' if is_bitmap[at] else 'block'}"
        else:
            why = "partially present, but the image has no parent"
        raise FormatError(f"{said}: {why}", where=self.file.file.name, remedy=RESTORE)

    def _read(self, start: int, stop: int) -> Window:
        data = self.file.read_at(self.offset + start * _ENTRY, (stop - start) * _ENTRY)
        return Window(start, np.frombuffer(data, "<u8").astype(np.uint64, copy=False))
