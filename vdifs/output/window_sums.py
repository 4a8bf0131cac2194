"""How much of something each window has, and how much lies before it: from a window to a position and back.

Neighbouring windows that have the same amount are one run, so a disk of 64 TiB that is empty, or full, takes a few
bytes. Prefix sums find the window of a position, whatever the amounts are: blocks, or bytes of any number.

    window    0    1    2    3    4    5    6
    amount    -    8    8    8    3    -    8
    runs           (1,3,8)        (4,1,3)   (6,1,8)     first window, windows, amount of each
    before         0              24        27          in the runs before
"""

from array import array
from bisect import bisect_right
from copy import copy

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import columns, led_by
from vdifs.ranges import Ranges

__all__ = ["Runs", "WindowSums", "count_by_window", "full_windows", "less", "merged"]

Runs = NDArray[np.int64]
"""Shape (n, 3): the first of neighbouring windows, how many they are, and the amount of each; sorted, apart."""


class WindowSums:
    """The sums of one amount over the windows of a disk. Immutable."""

    def __init__(self, runs: Runs) -> None:
        """Sum up `runs`; windows that are in none of them have nothing."""
        runs = merged(runs)
        amounts = runs[:, 1] * runs[:, 2]
        self._first, self._windows, self._each = (_plain(column) for column in runs.T)
        self._before = _plain(np.cumsum(amounts) - amounts)
        self._unit = 1
        self.total = int(amounts.sum())
        """The amount in all."""

    def times(self, unit: int) -> "WindowSums":
        """Return the sums of `unit` for each 1 of the amount: bytes, where the amount is blocks of one size."""
        scaled = copy(self)  # which shares the columns
        scaled._unit *= unit
        scaled.total *= unit
        return scaled

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return 512 + 32 * len(self._first)

    @property
    def runs(self) -> Runs:
        """What was summed up, times its unit."""
        first, windows, each = (np.frombuffer(column, np.int64) for column in (self._first, self._windows, self._each))
        return columns(first, windows, each * self._unit)

    def before(self, window: int) -> int:
        """Return the amount of all windows below `window`."""
        at = bisect_right(self._first, window) - 1
        if at < 0:
            return 0
        windows = min(window - self._first[at], self._windows[at])
        return (self._before[at] + windows * self._each[at]) * self._unit

    def next_with_any(self, window: int) -> int | None:
        """Return the lowest window from `window` on that has any of the amount, None if none does."""
        before = self.before(window)
        return self.find(before)[0] if before < self.total else None

    def find(self, position: int) -> tuple[int, int, int]:
        """Return the window that `position`, below the total, falls into, and the amounts below it and through it."""
        index = position // self._unit
        at = bisect_right(self._before, index) - 1
        before, each = self._before[at], self._each[at]
        windows = (index - before) // each
        start = before + windows * each
        return self._first[at] + windows, start * self._unit, (start + each) * self._unit


def count_by_window(blocks: Ranges, per_window: int, cuts: int) -> Runs:
    """Return how many blocks of `blocks` each window has; cuts: how often windows are cut below them.

    blocks      |...[==|========|========|=]..[=]...|
    runs            first        between  last
    """
    starts, stops = blocks.starts, blocks.stops
    first, last = starts // per_window, (stops - 1) // per_window
    if len(blocks) and first[0] == last[-1]:  # as in all small disks
        return np.array([[first[0] + cuts, 1, (stops - starts).sum()]], np.int64)
    alone = first == last
    ends = np.where(alone, stops, (first + 1) * per_window)
    parts = np.empty((len(blocks), 3, 3), np.int64)
    parts[:, 0] = columns(first, np.ones_like(first), ends - starts)
    parts[:, 1] = columns(first + 1, np.maximum(last - first - 1, 0), np.full_like(first, per_window))
    parts[:, 2] = columns(last, (~alone).astype(np.int64), stops - last * per_window)
    runs = parts[parts[:, :, 1] > 0]
    runs[:, 0] += cuts
    if not len(runs):
        return runs
    begins = np.flatnonzero(led_by(True, runs[1:, 0] != runs[:-1, 0]))
    each = np.add.reduceat(runs[:, 2], begins)
    return columns(runs[begins, 0], runs[begins, 1], each)


def full_windows(ranges: Ranges, start: int, end: int, size: int, cuts: int) -> Ranges:
    """Return the windows of [start, end), all of them within it, of which each lies in one of `ranges`.

    ranges: in bytes, within [start, end). size: of most windows. cuts: how often windows are cut up to `start`.

    ranges      |=====]..[======================]....[=====|
    windows     |     |       |       |       |       |    |
    result      [0    1)      [2              4)
    """
    starts, stops = ranges.starts, ranges.stops
    first = np.where(starts == start, start // size, -(-starts // size))
    last = np.where(stops == end, -(-end // size), stops // size)
    rows = columns(first, last) + cuts
    return Ranges.of(rows[first < last])


def less(runs: Runs, other: Runs) -> Runs:
    """Return what is left of `runs` without `other`, of which no window may have more.

    runs        |  8  8  8  8  8  8  8  8  |
    other          |  3  3  |     |  8  8  |
    result      |8 |  5  5  | 8  8|
    """
    starts, stops = runs[:, 0], runs[:, 0] + runs[:, 1]
    edges = np.unique(np.concatenate([starts, stops, other[:, 0], other[:, 0] + other[:, 1]]))
    first, count = edges[:-1], np.diff(edges)
    return merged(columns(first, count, _amounts(runs, first) - _amounts(other, first)))


def merged(runs: Runs) -> Runs:
    """Return the fewest runs that say the same, without those of nothing."""
    runs = runs[(runs[:, 1] > 0) & (runs[:, 2] > 0)]
    if len(runs) < 2:
        return runs
    before, after = runs[:-1], runs[1:]
    new = led_by(True, (before[:, 2] != after[:, 2]) | (before[:, 0] + before[:, 1] != after[:, 0]))
    first = np.flatnonzero(new)
    return columns(runs[first, 0], np.add.reduceat(runs[:, 1], first), runs[first, 2])


def _amounts(runs: Runs, windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the amount of each of `windows`: int64."""
    if not len(runs):
        return np.zeros_like(windows)
    at = np.maximum(runs[:, 0].searchsorted(windows, "right") - 1, 0)
    inside = (windows >= runs[at, 0]) & (windows < runs[at, 0] + runs[at, 1])
    return np.where(inside, runs[at, 2], 0)


def _plain(values: NDArray[np.int64]) -> "array[int]":
    """Return them as what gives an integer in less time than numpy does."""
    return array("q", values.tobytes())
