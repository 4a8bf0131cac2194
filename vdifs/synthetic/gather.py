"""Filling a buffer from the pieces of a region: the one place where guest data are read."""

import itertools

from vdifs.errors import FormatError, WouldBlock
from vdifs.extents import Kind
from vdifs.qcow2.entries import compressed_cluster
from vdifs.qcow2.header import CompressionType
from vdifs.source.chain import Chain
from vdifs.synthetic.cache import ByteBoundedCache
from vdifs.synthetic.window import Pieces

__all__ = ["Gatherer"]

_inflated: ByteBoundedCache[bytes] = ByteBoundedCache(16 << 20, len)
_serial = itertools.count()


class Gatherer:
    """Reads from the files of one chain."""

    def __init__(self, chain: Chain) -> None:
        """Read nothing yet."""
        self._members = chain.members
        self._files = [member.data for member in chain.members]
        self._key = next(_serial)

    def readinto(self, pieces: Pieces, at: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer`, which holds zeros, with the bytes from `at` on of the region that `pieces` describe.

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
        for out, stop, guest, kind, layer, host in rows:
            low, high = max(out, at), min(stop, end)
            target = buffer[low - at : high - at]
            if kind == Kind.DATA:
                self._files[layer].readinto_at(host + low - out, target, wait=wait)
            else:
                self._inflate_into(layer, host, guest + low - out, target, wait)

    def _inflate_into(self, layer: int, entry: int, guest: int, target: memoryview, wait: bool) -> None:
        """Fill `target` from guest offset `guest` on; neighbouring clusters may share one L2 `entry`."""
        header = self._members[layer].header
        assert header is not None, "only qcow2 layers have compressed clusters"
        size = header.cluster_size
        done = 0
        while done < len(target):
            skip = (guest + done) % size
            count = min(size - skip, len(target) - done)
            data = self._cluster(layer, entry, header.cluster_bits, CompressionType(header.compression_type), wait)
            target[done : done + count] = data[skip : skip + count]
            done += count

    def _cluster(self, layer: int, entry: int, cluster_bits: int, compression: CompressionType, wait: bool) -> bytes:
        key = (self._key, layer, entry)
        data = _inflated.get(key)
        if data is not None:
            return data
        if not wait:
            raise WouldBlock
        from vdifs.qcow2.inflate import inflate

        place = compressed_cluster(entry, cluster_bits)
        file = self._files[layer]
        try:
            data = inflate(file.read_at(place.offset, place.length), 1 << cluster_bits, compression)
        except FormatError as error:
            raise FormatError(f"{file.name}: compressed cluster at {place.offset:#x}: {error}") from error
        _inflated.put(key, data)
        return data
