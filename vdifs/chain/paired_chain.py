"""Two states of disks whose chains share a file: what one reads otherwise than the other, as far as tables tell.

    image    top.qcow2  | A a . . |        sibling.qcow2 over the same base; or another snapshot of the same file
    base     sib.qcow2  | . b b . |
    shared   base.qcow2 | c c c c |
    holds               | A a c . |        where both show the same place of one file, or nothing: nothing

A place of a file stands for the same bytes in both, as both are read from one generation of it: that is checked. So
nothing has to be read but tables, and of these only those in which the two differ.

The pair is a chain: the members of the image, and then those of the base, whose runs stand where nothing is held.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.chain.flattening import Flattening
from vdifs.chain.open_chain import Chain
from vdifs.errors import ChainError, SourceChangedError
from vdifs.extents import NO_FILE, Extents, Kind, Stack
from vdifs.formats.alike import unlike_ranges
from vdifs.ranges import Ranges
from vdifs.units import SECTOR, round_down, round_up

__all__ = ["PairedChain"]


class PairedChain(Chain):
    """A chain of `image`, and that of `base`, which is no ancestor of it. Takes over both; see Chain.

    base: the index among its members of the first that is of the base.
    """

    paired = True

    def __init__(self, image: Chain, base: Chain) -> None:
        """Raises ChainError if they have no file in common, in one state."""
        _check_shared(image, base)
        super().__init__(image.members + base.members)
        self.depth = image.depth
        self.base = len(image.members)
        self._image, self._below = image, base
        self._shared = _shared_files(image, base)
        self._unlike = _unlike(image, base)

    def flattening(  # type: ignore[override] # it has the one method that callers use
        self,
        layers: slice = slice(None),
        *,
        step: int = SECTOR,
        grid: int = SECTOR,
        narrow: Callable[[Stack], None] | None = None,
        narrow_at: int = 0,
    ) -> "_PairedFlattening":
        """Return what flattens the pair in parts. It looks at nothing where both hold the same, nor asks `narrow`."""
        del layers, narrow, narrow_at
        image, base = (chain.flattening(step=step, grid=grid) for chain in (self._image, self._below))
        return _PairedFlattening(image, base, self, step)

    def unlike_within(self, start: int, end: int, step: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges in [start, end), in whole steps, outside of which both read the same."""
        found = self._unlike.rows.copy()
        found[:, 0] = found[:, 0] // step * step
        found[:, 1] = -(-found[:, 1] // step) * step
        yield from Ranges.union(found).clip(start, end).rows.tolist()

    def put_together(self, image: Extents, base: Extents) -> Extents:
        """Return what `image` holds that `base` does not; elsewhere the runs of the base, in the files of the pair."""
        return image.unlike(base, self._shared, self.first_file[self.base])

    @property
    def base_size(self) -> int:
        """Bytes of the base's disk."""
        return self._below.virtual_size


@dataclass(frozen=True, slots=True)
class _PairedFlattening:
    """See Flattening."""

    image: Flattening
    base: Flattening
    pair: PairedChain
    step: int

    def parts(self, start: int, end: int) -> Iterator[Extents]:
        """Yield what the pair holds of [start, end), in parts, in order; nothing of an empty range."""
        at = start
        for low, high in self.pair.unlike_within(start, end, self.step):
            if at < low:
                yield Extents.uniform(at, low, Kind.UNALLOCATED)
            yield from self._compared(low, high)
            at = high
        if at < end:
            yield Extents.uniform(at, end, Kind.UNALLOCATED)

    def _compared(self, start: int, end: int) -> Iterator[Extents]:
        """Yield the parts of a range, each of one part of both."""
        others = self._base_parts(start, end)
        other = next(others)
        for part in self.image.parts(start, end):
            at = int(part.start[0])
            while at < part.end:
                if other.end == at:
                    other = next(others)
                stop = min(part.end, other.end)
                yield self.pair.put_together(part.between(at, stop), other.between(at, stop))
                at = stop

    def _base_parts(self, start: int, end: int) -> Iterator[Extents]:
        """Yield what the base holds of [start, end): behind its end are zeros, as in QEMU."""
        size = min(end, self.pair.base_size)
        filled = min(end, round_up(size, self.step))  # so that no part begins within a step
        for part in self.base.parts(start, size) if start < size else ():
            ends = part.end == size < filled
            yield Extents.joined([part, Extents.uniform(size, filled, Kind.ZERO)]) if ends else part
        if max(start, filled) < end:
            yield Extents.uniform(max(start, filled), end, Kind.ZERO)


def _check_shared(image: Chain, base: Chain) -> None:
    """Raise ChainError unless some file is in both, SourceChangedError if it changed between their openings."""
    states = {file.fingerprint[:2]: file for file in base.files}
    shared = [(file, states[file.fingerprint[:2]]) for file in image.files if file.fingerprint[:2] in states]
    if not shared:
        raise ChainError(
            f"{base.members[0].file.name} is not in its chain, and shares no file with it",
            where=image.members[0].file.name,
            remedy="give one of its ancestors as base, or another image over one of them",
            errno=errno.EINVAL,
        )
    for file, again in shared:
        if file.fingerprint != again.fingerprint:
            raise SourceChangedError("changed while it was opened", where=file.name, remedy="try again")


def _shared_files(image: Chain, base: Chain) -> NDArray[np.int16]:
    """Return for each data file of the image its index among those of the base, -1 if it is none of them: int16.

    It must be of the same image file too: what a token of packed data stands for, that image says.
    """
    states = [
        [(each.file.fingerprint, file.fingerprint) for each in chain.members for file in each.data]
        for chain in (image, base)
    ]
    index = {state: at for at, state in reversed(list(enumerate(states[1])))}
    return np.array([index.get(state, NO_FILE) for state in states[0]], np.int16)


def _unlike(image: Chain, base: Chain) -> Ranges:
    """Return the ranges outside of which both read the same, whatever their tables say within."""
    ours, theirs = list(image.members), list(base.members)
    while ours and theirs and ours[-1].layer.identity == theirs[-1].layer.identity:
        ours.pop()
        theirs.pop()
    above = [member.layer for member in (*ours, *theirs)]
    if not above:
        return Ranges.of([])
    end = image.virtual_size
    if not all(layer.has_backing for layer in above):
        return Ranges.of([(0, end)] if end else [])
    if len(ours) == len(theirs) == 1:
        rows = unlike_ranges(ours[0].layer, theirs[0].layer)
    else:
        rows = np.concatenate([layer.populated() for layer in above])
    ends = round_down(min(layer.virtual_size for layer in above), SECTOR)
    return Ranges.union(np.concatenate([rows, np.array([[ends, max(end, ends)]], np.int64)])).clip(0, end)
