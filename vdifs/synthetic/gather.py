"""Filling a buffer from the pieces of a region: the one place where guest data are read."""

from collections.abc import Iterator

from vdifs.extents import Kind
from vdifs.source.chain import Chain
from vdifs.source.hostfile import clear
from vdifs.synthetic.inflated import InflatedClusters, Use
from vdifs.synthetic.window import Pieces

__all__ = ["Gatherer"]


class Gatherer:
    """Reads from the files of one chain."""

    def __init__(self, chain: Chain) -> None:
        """Read nothing yet."""
        self._files = [member.data for member in chain.members]
        self._cluster_sizes = [member.header.cluster_size if member.header else 0 for member in chain.members]
        self._inflated = InflatedClusters(chain)

    def readinto(self, pieces: Pieces, at: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` with the bytes from `at` on of the region that `pieces` describe.

        wait=False: raises WouldBlock for bytes that are not in the page cache.
        """
        end = at + len(buffer)
        first = int(pieces.stop.searchsorted(at, "right"))
        last = int(pieces.out.searchsorted(end, "left"))
        part = slice(first, last)
        rows = zip(
            pieces.out[part].tolist(),
            pieces.stop[part].tolist(),
            pieces.guest[part].tolist(),
            pieces.kind[part].tolist(),
            pieces.layer[part].tolist(),
            pieces.host[part].tolist(),
            strict=True,
        )
        compressed: list[Use] = []
        filled = at
        for out, stop, guest, kind, layer, host in rows:
            low, high = max(out, at), min(stop, end)
            if filled < low:
                clear(buffer[filled - at : low - at])
            filled = high
            target = buffer[low - at : high - at]
            if kind == Kind.DATA:
                self._files[layer].readinto_at(host + low - out, target, wait=wait)
            else:
                compressed += self._uses(layer, host, guest + low - out, target)
        if filled < end:
            clear(buffer[filled - at :])
        if compressed:
            self._inflated.fill(compressed, wait=wait)

    def _uses(self, layer: int, entry: int, guest: int, target: memoryview) -> Iterator[Use]:
        """Yield the uses of `target`, from guest offset `guest` on; neighbouring clusters may share one L2 `entry`."""
        size = self._cluster_sizes[layer]
        done = 0
        while done < len(target):
            skip = (guest + done) % size
            count = min(size - skip, len(target) - done)
            yield Use(layer, entry, skip, target[done : done + count])
            done += count
