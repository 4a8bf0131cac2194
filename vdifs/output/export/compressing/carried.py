"""Clusters that are packed in a synthetic qcow2 already: their bytes, up to where the packed data end.

An L2 entry tells no more than the sector in which they end, and the next cluster may begin in it. The image knows the
end, as it has unpacked them to prove them.
"""

from bisect import bisect_left

from vdifs.formats.qcow2.inflate import Inflater
from vdifs.output.export.compressing.batches import Batch
from vdifs.output.image import Image
from vdifs.output.protocol import Region

__all__ = ["CarriedClusters"]


class CarriedClusters:
    """Those of one image. One thread's own."""

    def __init__(self, image: Image, inflater: Inflater) -> None:
        """inflater: finds the ends that the image does not tell."""
        self._image, self._inflater = image, inflater

    def packed(self, batch: Batch, data: memoryview) -> list[bytes]:
        """Return the packed bytes of each cluster of a batch; data: those of the batch, as far as the file has them.

        Raises FormatError for damaged ones, and what reading does.
        """
        region: Region | None = None
        found: list[bytes] = []
        for at, most in zip(batch.at, batch.lengths, strict=True):
            offset = batch.offset + at
            if region is None or not region.start <= offset < region.stop:
                region = self._image.known(offset, wait=True)
            whole = data[at : at + most].tobytes()
            length = _length(region, offset)
            found.append(whole[: self._inflater.measure(whole) if length is None else length])
        return found


def _length(region: Region | None, offset: int) -> int | None:
    """Return how many bytes the piece has that begins at `offset` of the file, None where none is known."""
    if region is None or region.pieces is None:
        return None
    out, within = region.pieces.out, offset - region.start
    index = bisect_left(out.data, within)
    if index == len(out) or out.item(index) != within:
        return None
    return int(region.pieces.stop.item(index)) - within
