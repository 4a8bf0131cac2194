"""One packed grain to bytes, bounded by its size: some bytes of a hostile image may hold gigabytes. Pure.

See docs/formats.md, VMDK.
"""

from isal import isal_zlib
from isal.igzip_lib import IsalError

from vdifs.errors import FormatError
from vdifs.formats.vmdk.stream import MARKER_SIZE, Marker

__all__ = ["Unpacker"]

_WINDOW = 15


class Unpacker:
    """Unpacks grains, each with its marker in front: one thread's own."""

    def __init__(self, grain: int, short: dict[int, int]) -> None:
        """Take the bytes of a grain. short: of what grains, by their sector, fewer bytes will do, and how many."""
        self._grain = grain
        self._short = short

    def unpack(self, packed: bytes) -> bytes:
        """Return the grain, with zeros behind what lies beyond the end of the disk.

        Bytes after the stream are ignored. Raises FormatError where it is damaged, or does not hold just a grain.
        """
        marker = Marker.parse(packed)
        unpacker = isal_zlib.decompressobj(wbits=_WINDOW)
        try:
            data = unpacker.decompress(packed[MARKER_SIZE : MARKER_SIZE + marker.length], self._grain + 1)
        except IsalError as error:  # type: ignore[misc] # isal declares its class as an instance
            raise FormatError(f"the packed grain is damaged: {error}") from error
        needed = self._short.get(marker.sector, self._grain)
        if not needed <= len(data) <= self._grain:
            what = f"the packed grain of sector {marker.sector} holds {len(data)} bytes"
            raise FormatError(f"{what}, expected {needed}" if len(data) < needed else f"{what} and more")
        if not unpacker.eof:
            raise FormatError(f"the packed grain of sector {marker.sector} is cut short: its checksum is missing")
        return bytes(data).ljust(self._grain, b"\0")
