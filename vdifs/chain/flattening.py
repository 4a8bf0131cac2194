"""Flattening a disk in parts, none of which is much work or memory, however large the disk and however fine its layers.

Layers are asked from the top down, each only where those above have left something bare. Where a layer has more there
than is taken at once, the range is cut, and its parts go on by themselves. So each is as long as what is in it allows:

    layer 0   |--------------------------|==|-----------------------------------------------|
    layer 1   |------------|==|==|==|==|====|==|==|--------------------------------|==|-----|
    parts     |                    |         |                                              |

How much a layer has somewhere is its load.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import between, columns, led_by
from vdifs.extents import Extents, Kind, Stack
from vdifs.formats.load import Load
from vdifs.pace import give_way

__all__ = ["AT_ONCE", "Flattening", "Source"]

AT_ONCE = 1 << 17
"""So many units, and runs above them, are in one part."""
_PARTS_AT_ONCE = 64
_MOST_NESTED = 4
_WORTH_A_CALL = 1 << 12
"""Units that are rather decoded in vain than skipped by one call more."""


@dataclass(frozen=True, slots=True)
class Source:
    """One layer of a chain.

    ask: what it holds of [start, end), UNALLOCATED where those below may answer. silent_to: below this offset it need
    not be asked where it has no load, as it holds nothing there.
    """

    load: Load
    ask: Callable[[int, int], Extents]
    silent_to: int


@dataclass(frozen=True, slots=True)
class Flattening:
    """The layers of a chain, or some of them, top first.

    step: bytes; parts start at multiples of it. grid: a multiple of `step`; they start at multiples of it where that
    makes no difference. at_once: the most units, and runs above them, of a part that is longer than `step`. narrow,
    narrow_at: what is called before the layer of that index, to leave bare what need not be known.
    """

    sources: Sequence[Source]
    step: int
    grid: int
    at_once: int = AT_ONCE
    narrow: Callable[[Stack], None] | None = None
    narrow_at: int = 0

    def parts(self, start: int, end: int) -> Iterator[Extents]:
        """Yield what the layers hold of [start, end), in parts, in order; nothing of an empty range."""
        if start < end:
            for stack in self._flatten(Stack(start, end), 0, 0):
                yield stack.extents()

    def _flatten(self, stack: Stack, index: int, nested: int) -> Iterator[Stack]:
        """Yield the parts of `stack`, with the layers from `index` on added; nested: while so many others wait."""
        for below, source in enumerate(self.sources[index:], index + 1):
            if self.narrow is not None and below == self.narrow_at + 1:
                self.narrow(stack)
            if not stack.is_bare:
                break
            cuts = self._cuts(stack, source.load)
            if len(cuts) and nested == _MOST_NESTED:
                stack.clear()
                for start, end in pairwise([stack.start, *cuts.tolist(), stack.end]):
                    yield from self._flatten(Stack(start, end), 0, nested)  # from the top: what waits takes memory
                return
            if len(cuts):
                for part in _in_parts(stack, cuts):
                    self._add(part, source)
                    yield from self._flatten(part, below, nested + 1)
                return
            self._add(stack, source)
        yield stack

    def _add(self, stack: Stack, source: Source) -> None:
        """Put a layer beneath the others, asking it for what is bare."""
        if not stack.is_bare or _is_silent(stack, source):
            return
        ranges = _to_ask(stack, source.load).tolist()
        parts: list[Extents] = []
        for at, (start, end) in enumerate(ranges):
            if at and ranges[at - 1][1] < start:
                parts.append(Extents.uniform(ranges[at - 1][1], start, Kind.UNALLOCATED))
            parts.append(source.ask(start, end))
            give_way()
        stack.add(Extents.joined(parts))

    def _cuts(self, stack: Stack, load: Load) -> NDArray[np.int64]:
        """Return where to cut a range so that what `load` adds is no more than is taken at once: int64, sorted."""
        none = np.empty(0, np.int64)
        if stack.runs + load.units <= self.at_once:  # most images are small, and all of them are opened
            return none
        low, high = load.below(np.array([stack.starts[0], stack.stops[-1]])).tolist()
        if stack.runs + high - low <= self.at_once:
            return none
        at = _turns(stack, load, _to_ask(stack, load))
        units = at.units[-1]
        if units <= self.at_once:
            return none
        targets = np.arange(1, count := int(-(-units // self.at_once))) * (units / count)
        exact = np.interp(targets, at.units, at.offsets).astype(np.int64)
        coarse = exact // self.grid * self.grid
        near = np.abs(np.interp(coarse, at.offsets, at.units) - targets) <= self.at_once / 4
        cuts = np.unique(np.where(near, coarse, exact // self.step * self.step))
        return cuts[(cuts > stack.start) & (cuts < stack.end)]


def _in_parts(stack: Stack, cuts: NDArray[np.int64]) -> Iterator[Stack]:
    """Yield the parts of `stack`, few of them made before they are taken."""
    for at in range(0, len(cuts), _PARTS_AT_ONCE):
        *parts, stack = stack.split(cuts[at : at + _PARTS_AT_ONCE])
        parts.reverse()
        while parts:
            yield parts.pop()
    yield stack


def _is_silent(stack: Stack, source: Source) -> bool:
    """Tell whether a layer holds nothing of what is bare."""
    low, high = int(stack.starts[0]), int(stack.stops[-1])
    return high <= source.silent_to and source.load.is_empty(low, high)


@dataclass(frozen=True, slots=True)
class _Turns:
    """How the work grows along a range: `units` of it below each of `offsets`, evenly in between. float64, sorted."""

    offsets: NDArray[np.float64]
    units: NDArray[np.float64]


def _turns(stack: Stack, load: Load, ranges: NDArray[np.int64]) -> _Turns:
    """Return how the runs of `stack` and the load within `ranges` grow together."""
    runs = np.sort(stack.run_starts)
    low, high = load.edges.searchsorted((ranges[0, 0], ranges[-1, 1]))
    ends = np.array([stack.start, stack.end])
    offsets = np.unique(np.concatenate([ranges.reshape(-1), runs, load.edges[low:high], ends]).astype(np.float64))
    loads = load.below(ranges.reshape(-1)).reshape(-1, 2)
    each = loads[:, 1] - loads[:, 0]
    before = led_by(0, each.cumsum())
    index = ranges[:, 0].searchsorted(offsets, "right") - 1
    inside = np.clip(load.below(offsets) - loads[index, 0], 0, each[index])
    units = np.where(index < 0, 0, before[index] + inside)
    return _Turns(offsets, units + runs.searchsorted(offsets))


def _to_ask(stack: Stack, load: Load) -> NDArray[np.int64]:
    """Return the bare ranges, those joined between which there is little: int64, shape (n, 2), sorted, apart."""
    starts, stops = stack.starts, stack.stops
    if len(starts) < 2:
        return columns(starts, stops)
    return between(starts, stops, load.below(starts[1:]) - load.below(stops[:-1]) >= _WORTH_A_CALL)
