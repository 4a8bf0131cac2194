"""The raw output: the guest contents, which have no layout and no tables."""

import os
from collections.abc import Hashable, Iterator, Mapping
from functools import partial

from vdifs.output.allocation import Allocation
from vdifs.output.data_runs import DataRuns
from vdifs.output.granularity import Granularity
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region, ResolvedSpec
from vdifs.output.window import Pieces
from vdifs.units import SECTOR, round_down

__all__ = ["RawOutput"]


class RawOutput:
    """See Output."""

    def __init__(self, spec: ResolvedSpec) -> None:
        """Counts what the disk holds, in clusters of the spec, and reads no data."""
        self._chain = spec.chain
        allocation = Allocation(spec.chain, None, Granularity(spec.cluster_bits, spec.cluster_bits))
        summary = allocation.summarize()
        self.size = self.size_if_full = spec.chain.virtual_size
        self.allocated = summary.stored.total << spec.cluster_bits
        self.packed = 0
        self.stored = min(self.allocated, self.size)
        # No byte follows from these, but the etags of raw views have always had them and must stay the same.
        self.etag_parts = (spec.cluster_bits, spec.extended_l2), None
        self.tables: Mapping[Hashable, int] = {id(summary): summary.nbytes}
        self._summary = summary
        self._windows = summary.windows
        self._kept: KeptWindows[Pieces] = KeptWindows(spec.chain)
        self._reader = PieceReader(spec.chain)

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Output."""
        index, start, stop = self._windows.locate(offset)
        if offset < offset + len(buffer) <= stop:  # most reads: within one window
            pieces = self._kept.get(index, self._resolve, wait=wait)
            self._reader.readinto(pieces, offset - start, buffer, wait=wait)
            return
        done, end = 0, offset + len(buffer)
        while done < len(buffer):
            index, start, stop = self._windows.locate(offset + done)
            count = min(end, stop) - offset - done
            pieces = self._kept.get(index, self._resolve, wait=wait)
            self._reader.readinto(pieces, offset + done - start, buffer[done : done + count], wait=wait)
            done += count

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """See Output."""
        index, start, stop = self._windows.locate(offset)
        return Region(start, stop, self._kept.get(index, self._resolve, wait=wait))

    def ahead(self, offset: int, most: int) -> Region | None:
        """See Output."""
        start = round_down(offset, SECTOR)
        whole = next(self._chain.in_parts(start=start))
        self._chain.check_unchanged()
        pieces, stop = Pieces.from_extents(whole, whole.start - start), whole.end
        if len(pieces.out) > most:
            pieces = pieces.first(most)
            stop = start + int(pieces.stop[-1])
        return Region(start, stop, pieces)

    def regions(self) -> Iterator[Region]:
        """See Output. They are as long as what is on the disk allows: its windows may be many, and little in each."""
        for whole in self._chain.in_parts() if self._summary.stored.total else ():
            self._chain.check_unchanged()
            pieces = Pieces.from_extents(whole, whole.start - whole.start[0])
            if len(pieces.out):
                reading = partial(self._reader.readinto, pieces, wait=True)
                yield Region(int(whole.start[0]), whole.end, pieces, reading)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:
        """See Output. Data are what a file of the chain holds, packed or not, to the byte."""
        runs = DataRuns(self._summary, partial(self._kept.get, resolve=self._resolve, wait=wait))
        return runs.data_from(offset) if whence == os.SEEK_DATA else runs.hole_from(offset)

    def _resolve(self, index: int) -> Pieces:
        """Return what a window is made of, its start being 0."""
        whole = self._chain.extents(*self._windows.range(index))
        return Pieces.from_extents(whole, whole.start - whole.start[0])
