"""Filling a buffer from the pieces of a region: the one place where guest data are read."""

from bisect import bisect_left, bisect_right

import numpy as np

from vdifs.chain.open_chain import Chain
from vdifs.extents import Kind
from vdifs.output.unpacked_units import UnpackedUnits, Use
from vdifs.output.window import ONES, Pieces
from vdifs.storage.host_file import HostFile

__all__ = ["PieceReader"]


class PieceReader:
    """Reads from the files of one chain."""

    def __init__(self, chain: Chain) -> None:
        """Read nothing yet."""
        self._files = chain.data_files
        self._all_files = chain.files
        self._unpacked = UnpackedUnits(chain)

    def readinto(self, pieces: Pieces, at: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` with the bytes from `at` on of the region that `pieces` describe.

        wait=False: raises WouldBlock for bytes that are not in the page cache. Raises SourceChangedError if a file
        that was read is another than when it was opened; if none was, for any file of the chain.
        """
        end = at + len(buffer)
        first = bisect_right(pieces.stop.data, at)
        if first < len(pieces.out) and _is_one_piece(pieces, first, at, end):  # most reads
            file = self._files[pieces.file.item(first)]
            file.readinto_at(pieces.host.item(first) + at - pieces.out.item(first), buffer, wait=wait)
            file.check_unchanged()
            return
        for file in self._gather(pieces, first, at, buffer, wait) or self._all_files:
            file.check_unchanged()

    def _gather(self, pieces: Pieces, first: int, at: int, buffer: memoryview, wait: bool) -> set[HostFile]:
        """Fill `buffer` from the pieces from index `first` on and return the files that were read."""
        end = at + len(buffer)
        part = slice(first, bisect_left(pieces.out.data, end))
        rows = zip(
            pieces.out[part].tolist(),
            pieces.stop[part].tolist(),
            pieces.guest[part].tolist(),
            pieces.kind[part].tolist(),
            pieces.file[part].tolist(),
            pieces.host[part].tolist(),
            strict=True,
        )
        compressed: list[Use] = []
        read: set[HostFile] = set()
        filled = at
        for out, stop, guest, kind, index, host in rows:
            low, high = max(out, at), min(stop, end)
            if filled < low:
                clear(buffer[filled - at : low - at])
            filled = high
            target = buffer[low - at : high - at]
            if kind == ONES:
                np.frombuffer(target, np.uint8)[:] = 0xFF
                continue
            file = self._files[index]
            read.add(file)
            if kind == Kind.DATA:
                file.readinto_at(host + low - out, target, wait=wait)
            else:
                compressed += self._unpacked.uses(index, host, guest + low - out, target)
        if filled < end:
            clear(buffer[filled - at :])
        if compressed:
            self._unpacked.fill(compressed, wait=wait)
        return read


def _is_one_piece(pieces: Pieces, index: int, at: int, end: int) -> bool:
    """Tell whether the piece at `index` holds all of [at, end) as plain data."""
    return (
        pieces.out.item(index) <= at and end <= pieces.stop.item(index) and bool(pieces.kind.item(index) == Kind.DATA)
    )


def clear(buffer: memoryview) -> None:
    """Fill `buffer`, one of bytes, with zeros."""
    np.frombuffer(buffer, np.uint8)[:] = 0
