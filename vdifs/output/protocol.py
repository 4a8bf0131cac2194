"""What every output is: the `Output` protocol, and the value that one is planned from.

OutputSpec, chain  ->  ResolvedSpec  ->  Plan: the disk counted and laid out  ->  Output: a size, and bytes
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vdifs.chain.open_chain import Chain
from vdifs.output.frame import Frame
from vdifs.output.view import PackedClusters
from vdifs.output.window import Pieces

__all__ = ["Output", "Plan", "Region", "ResolvedSpec"]


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """An OutputSpec of the image that `chain` has on top, with what it leaves open taken from the chain.

    base: the index of the base in the chain, None for a full image. backing_name, backing_format: None for
    the base's file name, and its format. packed: as in OutputSpec.
    """

    chain: Chain
    base: int | None
    cluster_bits: int
    extended_l2: bool = False
    backing_name: str | None = None
    backing_format: str | None = None
    packed: PackedClusters = "keep"


class Region(NamedTuple):
    """A range of a synthetic file, and what it is made of, at offsets from its start.

    pieces: None if computed. readinto: fills a buffer from an offset of the region on, all within it, with what is
    known already; None where that is no less work than reading the file there. frame: where the pieces make up what
    frames carry, one behind the other, the first of which begins with the region; None where they make up the region.
    """

    start: int
    stop: int
    pieces: Pieces | None
    readinto: Callable[[int, memoryview], None] | None = None
    frame: Frame | None = None


class Output(Protocol):
    """A synthetic file of one kind, planned: where everything lies in it, and its bytes. Safe to use from threads.

    It owns its layout. What it knows of the disk it has from the allocation, the bytes of guest data from the piece
    reader, and no position from either.
    """

    @property
    def size(self) -> int:
        """Length in bytes, exact."""

    @property
    def size_if_full(self) -> int:
        """Length in bytes of the same file if every unit of the disk held data."""

    @property
    def allocated(self) -> int:
        """Bytes of guest data held, in whole blocks."""

    @property
    def packed(self) -> int:
        """Bytes of the file that packed clusters take, in whole sectors; 0 where the output has none."""

    @property
    def stored(self) -> int:
        """Bytes of the file itself that are there, and no hole: what st_blocks is to say."""

    @property
    def etag_parts(self) -> tuple[object, ...]:
        """What determines the bytes, besides view, base and the state of the sources: values with a plain repr."""

    @property
    def tables(self) -> Mapping[Hashable, int]:
        """Bytes of memory that grow with what the disk holds, by what they are: what outputs share has one key."""

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` from `offset` on, all within `size`. wait=False: may raise WouldBlock.

        Raises SourceChangedError once a file that was read has changed, FormatError, StorageError.
        """

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """Return the range around `offset`, within `size`, with its pieces; None where that is computed.

        wait=False: raises WouldBlock where it is not resolved yet.
        """

    def ahead(self, offset: int, most: int) -> Region | None:
        """Return a range that holds `offset`, within `size`, as long as can be resolved in one go.

        It has `most` pieces at most, which is 1 or more; None where the file has no holes that `seek` tells of. Reads
        tables. Raises SourceChangedError, FormatError, StorageError.
        """

    def regions(self) -> Iterator[Region]:
        """Yield all that may hold something else than zeros, in order. Reads tables, no data."""

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:
        """Return where the first data from `offset` on begin (os.SEEK_DATA), or the first hole (os.SEEK_HOLE).

        offset: within `size`, which is what is returned if there are none. A hole reads as zeros; data may do so too,
        and all of the file may be data. Reads tables, few of them however large the disk is, and no data. wait=False:
        raises WouldBlock where it would have to. Raises SourceChangedError, FormatError, StorageError.
        """


Plan = Callable[[ResolvedSpec], Output]
"""Counts what the disk holds and lays it out. Raises UsageError for what the output cannot hold, and what reading
tables does."""
