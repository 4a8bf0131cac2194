"""A third output, of some lines: what all outputs share needs to know nothing of it, nor of where it puts things.

head of 100 bytes | for each block that holds data: 24 bytes that are zeros, the block
"""

import os
from collections.abc import Hashable, Iterator, Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.stated import StatedChain, stated_chains
from vdifs.extents import Kind
from vdifs.output.allocation import Allocation
from vdifs.output.granularity import Granularity
from vdifs.output.image import Image
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Output, Region, ResolvedSpec
from vdifs.output.window import Pieces, stored_blocks, stored_pieces
from vdifs.output.window_area import WindowArea

BITS = 10
BLOCK, LEAD, HEAD = 1 << BITS, 24, 100


class BlockFile:
    """Units are sectors; what is no data in a block is zeros."""

    etag_parts = ("blocks",)
    tables: Mapping[Hashable, int] = {}
    packed = 0

    def __init__(self, spec: ResolvedSpec) -> None:
        self._allocation = Allocation(spec.chain, spec.base, Granularity(9, BITS))
        summary = self._allocation.summarize()
        self.allocated = summary.stored.times(BLOCK).total
        self._kept: KeptWindows[Pieces] = KeptWindows(spec.chain)
        self._area = WindowArea(summary.stored.times(LEAD + BLOCK), self._pieces, PieceReader(spec.chain))
        self.size = self.stored = HEAD + self._area.size
        self.size_if_full = HEAD + -(-spec.chain.virtual_size // BLOCK) * (LEAD + BLOCK)

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        head = max(0, min(HEAD - offset, len(buffer)))
        buffer[:head] = b"h" * head
        if head < len(buffer):
            self._area.readinto(offset + head - HEAD, buffer[head:], wait=wait)

    def ahead(self, offset: int, most: int) -> Region | None:
        return None

    def known(self, offset: int, *, wait: bool) -> Region | None:
        return None if offset < HEAD else self._area.known(offset - HEAD, HEAD, wait=wait)

    def regions(self) -> Iterator[Region]:
        yield Region(0, HEAD, None)
        yield from self._area.regions(HEAD)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:
        return offset if whence == os.SEEK_DATA else self.size

    def _pieces(self, index: int, wait: bool) -> Pieces:
        return self._kept.get(index, self._resolve, wait=wait)

    def _resolve(self, index: int) -> Pieces:
        extents = self._allocation.extents(index)
        states, granularity = self._allocation.states(extents), self._allocation.granularity
        stored = stored_blocks(states, granularity.units_per_block)
        rank: NDArray[np.int64] = np.cumsum(stored) - stored
        return stored_pieces(extents, states, granularity, rank * (LEAD + BLOCK) + LEAD)


def expected(stated: StatedChain) -> bytes:
    kinds, contents = stated.kinds(), stated.contents()
    found = b"h" * HEAD
    for at in range(0, len(contents), BLOCK):
        block = contents[at : at + BLOCK]
        if any(block):  # all data are: see StatedFile
            found += bytes(LEAD) + block.ljust(BLOCK, b"\0")
    assert (len(found) > HEAD) == (Kind.DATA in kinds)
    return found


@given(stated_chains(), st.integers(30, 3000))
def test_its_bytes_are_those_of_its_own_layout_in_any_cuts(stated: StatedChain, step: int) -> None:
    chain = stated.chain
    output: Output = BlockFile(ResolvedSpec(chain, None, 16))
    image = Image(chain, output, "")
    wanted = expected(stated)
    assert image.size == len(wanted) <= output.size_if_full
    assert b"".join(image.stream(step)) == wanted
    assert (image.seek(step % HEAD, os.SEEK_DATA), image.seek(step % HEAD, os.SEEK_HOLE)) == (step % HEAD, image.size)


@given(stated_chains())
def test_what_is_not_empty_is_among_its_regions(stated: StatedChain) -> None:
    output = BlockFile(ResolvedSpec(stated.chain, None, 16))
    regions = list(output.regions())
    for region in regions:
        for at in (region.start, region.stop - 1):
            known = output.known(at, wait=True)
            assert known is None if region.pieces is None else known is not None
            assert known is None or (known.start, known.stop) == (region.start, region.stop)
    assert [region.start for region in regions[1:]] == [region.stop for region in regions[:-1]]
    assert regions[-1].stop == output.size
