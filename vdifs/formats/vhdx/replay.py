"""What an unclean log makes of a file, in memory: pages of 4 KiB over it, and ranges of zeros. Nothing is written.

the file     |hhhh|........|bbbbbbbb|........|dddddddddddd|        the end of the file
log          |    |        |  pp    |00000000|            |0000|   up to the size that the last entry tells
read_at      |hhhh|........|bbppbbbb|00000000|dddddddddddd|0000|
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.formats.vhdx.header import RESTORE, Header
from vdifs.formats.vhdx.log import LOG_SECTOR, Descriptors, active_run, descriptors_of
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile

__all__ = ["Replay", "ReplayedFile", "replayed"]

_FIRST = 192 << 10
"""No entry may write below the region tables."""
_HIGHEST = 1 << 62
_MOST_LOST = 1 << 32
"""So much of its end a file may have lost with its last writes; all of that counts as zeros."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What the log says. pages: int64, host offsets, sorted, each once. sources: where in the log their sectors lie.

    ends: of each page its first 8 bytes and its last 4, which the sector does not hold: uint8, shape (n, 12). zeros:
    what else it has zeroed. size: that of the file. entries: how many were applied.
    """

    pages: NDArray[np.int64]
    sources: NDArray[np.int64]
    ends: NDArray[np.uint8]
    zeros: Ranges
    size: int
    entries: int

    @property
    def page_rows(self) -> NDArray[np.int64]:
        """Where the pages lie: int64, shape (n, 2), sorted."""
        return np.stack([self.pages, self.pages + LOG_SECTOR], 1)

    @property
    def touched(self) -> Ranges:
        """Where anything is written."""
        return Ranges.union(np.concatenate([self.page_rows, self.zeros.rows]))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.pages.nbytes + self.sources.nbytes + self.ends.nbytes + self.zeros.nbytes


class ReplayedFile:
    """A file as it is after the replay of its log. size: where it ends then."""

    def __init__(self, file: HostFile, replay: Replay | None) -> None:
        """Take what the log says, None if there is nothing to replay."""
        self.file, self.replay = file, replay
        self.size = file.size if replay is None else max(file.size, replay.size)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, zeros beyond the end of the file."""
        data = self.file.read_at(offset, length)
        if self.replay is None:
            return data
        buffer, end = bytearray(data), offset + length
        for start, stop in self.replay.zeros.clip(offset, end).rows.tolist():
            buffer[start - offset : stop - offset] = bytes(stop - start)
        pages = self.replay.pages
        for index in range(*pages.searchsorted([offset - LOG_SECTOR + 1, end]).tolist()):
            page, place = self._page(index), int(pages[index])
            low, high = max(place, offset), min(place + LOG_SECTOR, end)
            buffer[low - offset : high - offset] = page[low - place : high - place]
        return bytes(buffer)

    def _page(self, index: int) -> bytes:
        replay = self.replay
        assert replay is not None, "only then there are pages"
        ends: bytes = replay.ends[index].tobytes()
        return ends[:8] + self.file.read_at(int(replay.sources[index]) + 8, LOG_SECTOR - 12) + ends[8:]


def replayed(file: HostFile, header: Header) -> ReplayedFile:
    """Return `file` as it is after the replay of its log, if it has one to replay.

    Raises FormatError, without the file's name, if the log is not in order; UnsupportedError if it is too large.
    """
    if not header.has_log:
        return ReplayedFile(file, None)
    if header.log_offset + header.log_length > file.size:
        what = f"its log of {header.log_length:#x} bytes at {header.log_offset:#x} ends beyond the end of the file"
        raise FormatError(what, remedy=CUT_SHORT)
    run = active_run(file.read_at, header)
    flushed, size = run[-1].flushed_size, run[-1].last_size
    if file.size < flushed:
        what = f"the file has {file.size:#x} bytes, and had {flushed:#x} when its log was written"
        raise FormatError(what, remedy=CUT_SHORT)
    if size > file.size + _MOST_LOST:
        what = f"the file has {file.size:#x} bytes, and its log says that it had {size:#x}"
        raise FormatError(what, remedy=CUT_SHORT)
    writes = [descriptors_of(file.read_at, header, entry) for entry in run]
    return ReplayedFile(file, _applied(writes, header, size))


def _applied(writes: list[Descriptors], header: Header, size: int) -> Replay:
    """Return what is left of writes, the later ones over the earlier."""
    rows = np.concatenate([each.rows for each in writes])
    is_data = np.concatenate([each.is_data for each in writes])
    sources = np.concatenate([each.places for each in writes])
    lengths = np.where(is_data, np.uint64(LOG_SECTOR), rows["lead"].view("<u8"))
    _check_places(rows["offset"], lengths, header)
    offsets, stops = rows["offset"].astype(np.int64), (rows["offset"] + lengths).astype(np.int64)
    order = np.arange(len(rows))
    # Of the pages at one place the last one counts: np.unique tells of the first, so it is asked backwards.
    pages, last = np.unique(offsets[is_data][::-1], return_index=True)
    last = len(sources) - 1 - last
    is_zero = ~is_data & (lengths > 0)
    zeroed = _last_over(pages, offsets[is_zero], stops[is_zero], order[is_zero])
    stays = order[is_data][last] > zeroed
    pages, last = pages[stays], last[stays]
    ends = np.concatenate([rows["lead"][is_data, None].view(np.uint8), rows["trail"][is_data, None].view(np.uint8)], 1)
    zeros = Ranges.union(np.stack([offsets[is_zero], stops[is_zero]], 1))
    return Replay(pages, sources[last], ends[last], zeros, size, len(writes))


def _last_over(
    pages: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each page, sorted, the order of the last range over it, -1 if there is none. order: ascending.

    A range over pages [i, j) is told to two spans of 2**k pages that cover these, and spans pass it on to their halves.
    """
    low, high = pages.searchsorted(starts), pages.searchsorted(stops)
    over = low < high
    low, high, order = low[over], high[over], order[over]
    levels = (high - low).astype(np.float64)
    np.log2(levels, out=levels)
    level = levels.astype(np.int64)
    spans = np.full((int(level.max()) + 1 if len(level) else 1, len(pages)), -1, np.int64)
    np.maximum.at(spans, (level, low), order)
    np.maximum.at(spans, (level, high - (1 << level)), order)
    for at in range(len(spans) - 1, 0, -1):
        half = 1 << at - 1
        np.maximum(spans[at - 1], spans[at], out=spans[at - 1])
        np.maximum(spans[at - 1][half:], spans[at][:-half], out=spans[at - 1][half:])
    found: NDArray[np.int64] = spans[0]
    return found


def _check_places(offsets: NDArray[np.uint64], lengths: NDArray[np.uint64], header: Header) -> None:
    """Refuse writes below the region tables, over the log, and where no file has anything."""
    beyond = (offsets > _HIGHEST) | (lengths > _HIGHEST)
    low = offsets < _FIRST
    start, stop = header.log_offset, header.log_offset + header.log_length
    over = (offsets < np.uint64(stop)) & (offsets + lengths > np.uint64(start)) & (lengths > 0)
    for wrong, what in ((beyond, "beyond all files"), (low, "over its headers"), (over, "over the log itself")):
        if wrong.any():
            offset = int(offsets[int(wrong.argmax())])
            raise FormatError(f"its log writes at {offset:#x}, {what}", remedy=RESTORE)
