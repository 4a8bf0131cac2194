"""The guest contents of a disk as an area of a file, every byte at the offset that it has on the disk."""

import os
from collections.abc import Iterator
from functools import partial

from vdifs.chain.open_chain import Chain
from vdifs.output.allocation import Allocation
from vdifs.output.data_runs import DataRuns
from vdifs.output.granularity import Granularity
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region
from vdifs.output.window import Pieces
from vdifs.units import SECTOR, round_down

__all__ = ["GuestContents"]


class GuestContents:
    """The whole disk of a chain. Its methods are those of Output, at offsets within the disk."""

    def __init__(self, chain: Chain, cluster_bits: int) -> None:
        """Count what the disk holds, in clusters, and read no data. Raises what Allocation.summarize does."""
        self._chain = chain
        self.size = chain.virtual_size
        self.summary = Allocation(chain, None, Granularity(cluster_bits, cluster_bits)).summarize()
        self.allocated = self.summary.stored.total << cluster_bits
        """Bytes of data, in whole clusters."""
        self._windows = self.summary.windows
        self._kept: KeptWindows[Pieces] = KeptWindows(chain)
        self._reader = PieceReader(chain)

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

    def known(self, offset: int, *, wait: bool) -> Region:
        """See Output."""
        index, start, stop = self._windows.locate(offset)
        return Region(start, stop, self._kept.get(index, self._resolve, wait=wait))

    def ahead(self, offset: int, most: int) -> Region:
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
        for whole in self._chain.in_parts() if self.summary.stored.total else ():
            self._chain.check_unchanged()
            pieces = Pieces.from_extents(whole, whole.start - whole.start[0])
            if len(pieces.out):
                reading = partial(self._reader.readinto, pieces, wait=True)
                yield Region(int(whole.start[0]), whole.end, pieces, reading)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:
        """See Output. Data are what a file of the chain holds, packed or not, to the byte."""
        runs = DataRuns(self.summary, partial(self._kept.get, resolve=self._resolve, wait=wait))
        return runs.data_from(offset) if whence == os.SEEK_DATA else runs.hole_from(offset)

    def _resolve(self, index: int) -> Pieces:
        """Return what a window is made of, its start being 0."""
        whole = self._chain.extents(*self._windows.range(index))
        return Pieces.from_extents(whole, whole.start - whole.start[0])
