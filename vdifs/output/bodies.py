"""The two kinds of synthetic file: a qcow2, and the raw guest contents. Both fill a buffer from any offset."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

from vdifs.output.allocation import Allocation
from vdifs.output.layout import Layout
from vdifs.output.piece_reader import Gatherer
from vdifs.output.render import Renderer
from vdifs.output.summary import Summary
from vdifs.output.window import Pieces

__all__ = ["Body", "Qcow2Body", "RawBody", "Region"]


class Region(NamedTuple):
    """A range of a synthetic file, and what it is made of, at offsets from its start.

    pieces: None if computed. readinto: fills a buffer from an offset of the region on, all within it, with what is
    known already; None where that is no less work than reading the file there.
    """

    start: int
    stop: int
    pieces: Pieces | None
    readinto: Callable[[int, memoryview], None] | None = None


class Body(Protocol):
    """The bytes of a synthetic file."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` from `offset` on, all within `size`. wait=False: may raise WouldBlock.

        Raises SourceChangedError once a file that was read has changed, FormatError, StorageError.
        """

    def regions(self) -> Iterator[Region]:
        """Yield all that may hold something else than zeros, in order. Reads L2 tables."""


class Qcow2Body:
    """A synthetic qcow2: tables, then the data clusters in guest order."""

    def __init__(self, layout: Layout, summary: Summary, allocation: Allocation, gatherer: Gatherer) -> None:
        """Read nothing yet."""
        self.size = layout.size
        self._data, self._bits = layout.data, layout.geometry.cluster_bits
        self._summary, self._allocation, self._gatherer = summary, allocation, gatherer
        self._renderer = Renderer(layout, summary, allocation)
        self._check_unchanged = allocation.chain.check_unchanged

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Body."""
        tables = min(len(buffer), max(0, self._data - offset))
        if tables:
            self._renderer.readinto(offset, buffer[:tables], wait=wait)
            self._check_unchanged()
        done = tables
        while done < len(buffer):
            done += self._read_window(offset + done - self._data, buffer[done:], wait)

    def regions(self) -> Iterator[Region]:
        """See Body."""
        yield Region(0, self._data, None)
        at = 0
        while at < self._summary.data_clusters:
            index, _ = self._summary.find_data(at)
            after = self._summary.data_before(index + 1)
            start, stop = (self._data + (clusters << self._bits) for clusters in (at, after))
            yield Region(start, stop, self._allocation.window(index).pieces)
            at = after

    def _read_window(self, at: int, buffer: memoryview, wait: bool) -> int:
        """Fill `buffer` from byte `at` of the data region on, as far as one window goes; return how far that is."""
        index, before = self._summary.find_data(at >> self._bits)
        pieces = self._allocation.window(index, wait=wait).pieces
        count = min(len(buffer), (self._summary.data_before(index + 1) << self._bits) - at)
        self._gatherer.readinto(pieces, at - (before << self._bits), buffer[:count], wait=wait)
        return count


class RawBody:
    """The guest contents."""

    def __init__(self, summary: Summary, allocation: Allocation, gatherer: Gatherer) -> None:
        """Read nothing yet."""
        self.size = allocation.geometry.virtual_size
        self._is_empty = not summary.data_clusters
        self._allocation, self._gatherer = allocation, gatherer
        self._windows = allocation.windows

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Body."""
        index, start, stop = self._windows.locate(offset)
        if offset < offset + len(buffer) <= stop:  # most reads: within one window
            pieces = self._allocation.raw_pieces(index, wait=wait)
            self._gatherer.readinto(pieces, offset - start, buffer, wait=wait)
            return
        done, end = 0, offset + len(buffer)
        while done < len(buffer):
            index, start, stop = self._windows.locate(offset + done)
            count = min(end, stop) - offset - done
            pieces = self._allocation.raw_pieces(index, wait=wait)
            self._gatherer.readinto(pieces, offset + done - start, buffer[done : done + count], wait=wait)
            done += count

    def regions(self) -> Iterator[Region]:
        """See Body. They are as long as what is on the disk allows: its windows may be many, and little in each."""
        for start, stop, pieces in () if self._is_empty else self._allocation.raw_parts():
            if len(pieces.out):
                yield Region(start, stop, pieces, partial(self._gatherer.readinto, pieces, wait=True))
