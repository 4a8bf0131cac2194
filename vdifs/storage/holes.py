"""Where a file has data: SEEK_DATA, and for preallocated extents FIEMAP.

SEEK_DATA alone is no steady answer. On ext4, XFS and btrfs a preallocated (unwritten) extent is a hole until a program
reads it, and data from then on, because its zeros are in the page cache:

    on disk        |=written=|   unwritten    |=written=|
    SEEK_DATA      |==data===|  hole   |data..|==data===|     after a read of the end of the unwritten extent
    here           |==data===|     hole       |==data===|     whatever was read

So what SEEK_DATA calls data and FIEMAP, after the file's dirty pages were written back, calls unwritten is a hole too.
"""

import errno
import fcntl
import itertools
import os
import struct
from collections.abc import Iterator

from vdifs.pace import give_way
from vdifs.ranges import Ranges

__all__ = ["MAX_DATA_RUNS", "data_ranges"]

MAX_DATA_RUNS = 65_536
"""A file in more pieces counts as one: its holes are not looked for."""

_FS_IOC_FIEMAP = 0xC020_660B
_FIEMAP_FLAG_SYNC = 1
_EXTENT_LAST, _EXTENT_UNWRITTEN = 0x1, 0x800
_HEAD = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQQQIIII")
_EXTENTS_AT_ONCE = 512
_SEEKS_AT_ONCE = 1024
_MOST_SEEKS = 2 * MAX_DATA_RUNS
"""Pieces that are looked at: what is in the page cache may have cut the runs further."""


def data_ranges(fd: int, size: int) -> Ranges:
    """Return where there are data, within [0, size); all else are holes.

    A file on a file system that cannot tell, or with more than MAX_DATA_RUNS runs, is all data.
    """
    runs = _seek_runs(fd, size)
    if runs is not None and runs != _without_unwritten(runs, fd, sync=False):
        runs = _without_unwritten(runs, fd, sync=True)
    if runs is None or len(runs) > MAX_DATA_RUNS:
        return Ranges.of([(0, size)] if size else [])
    return Ranges.of(runs)


def _seek_runs(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Return the data runs that SEEK_DATA tells, None where they are too many or it cannot tell."""
    runs: list[tuple[int, int]] = []
    at = 0
    try:
        while at < size:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
            if start < at:
                runs.append((start, at))
                if not len(runs) % _SEEKS_AT_ONCE:
                    give_way()
            if len(runs) > _MOST_SEEKS:
                return None
    except OSError as error:
        if error.errno != errno.ENXIO:
            return None
    return runs


def _unwritten(fd: int, *, sync: bool) -> Iterator[tuple[int, int]]:
    """Yield the unwritten extents, neighbours joined, none on a file system without FIEMAP; sync: write back before."""
    start, end = 0, 0
    for low, high in _unwritten_extents(fd, _FIEMAP_FLAG_SYNC if sync else 0):
        if low == end:
            end = high
        else:
            if start < end:
                yield start, end
            start, end = low, high
    if start < end:
        yield start, end


def _unwritten_extents(fd: int, flags: int) -> Iterator[tuple[int, int]]:
    at = 0
    while True:
        request = bytearray(_HEAD.pack(at, (1 << 63) - 1 - at, flags, 0, _EXTENTS_AT_ONCE, 0))
        request += bytes(_EXTENTS_AT_ONCE * _EXTENT.size)
        try:
            fcntl.ioctl(fd, _FS_IOC_FIEMAP, request)
        except OSError:
            return
        count, kind = _HEAD.unpack_from(request)[3], 0
        for index in range(count):
            logical, _, length, _, _, kind, *_ = _EXTENT.unpack_from(request, _HEAD.size + index * _EXTENT.size)
            if kind & _EXTENT_UNWRITTEN:
                yield logical, logical + length
            at = logical + length
        if not count or kind & _EXTENT_LAST:
            return


def _without_unwritten(runs: list[tuple[int, int]], fd: int, *, sync: bool) -> list[tuple[int, int]] | None:
    """Return `runs` less the unwritten extents, None where those are too many."""
    holes = list(itertools.islice(_unwritten(fd, sync=sync), _MOST_SEEKS + 1))
    return None if len(holes) > _MOST_SEEKS else _without(runs, holes)


def _without(runs: list[tuple[int, int]], holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `runs` less `holes`; both sorted, each without overlap."""
    left: list[tuple[int, int]] = []
    index = 0
    for start, end in runs:
        while index < len(holes) and holes[index][1] <= start:
            index += 1
        at, look = start, index
        while look < len(holes) and holes[look][0] < end:
            low, high = holes[look]
            if at < low:
                left.append((at, low))
            at = max(at, high)
            look += 1
        if at < end:
            left.append((at, end))
    return left
