"""What a synthetic VMDK must be, byte by byte, built by docs/formats.md with nothing of vdifs in it."""

import struct
import zlib
from collections.abc import Mapping

from tests.support import vmdk
from tests.support.vmdk import SECTOR

GRAIN_SIZE = 64 << 10
STORED_SIZE = 129 * SECTOR
GRAINS_AT = 128 * SECTOR
SUM_AT = 12 + 2 + 5 + 65_535 + 5 + 1
"""Where the Adler-32 of a stored grain stands."""


def stored(data: bytes) -> bytes:
    """Return a zlib stream of two stored blocks."""
    blocks = b"\0\xff\xff\0\0" + data[:65_535] + b"\1\1\0\xfe\xff" + data[65_535:]
    stream = b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(data))
    assert zlib.decompress(stream) == data
    return stream


def file_of(sectors: int, grains: Mapping[int, bytes], text: bytes) -> bytes:
    """Return the file of a disk of so many sectors, one at least; text: its descriptor."""
    whole = {index: data.ljust(GRAIN_SIZE, b"\0") for index, data in grains.items()}
    return vmdk.stream(max(1, sectors), whole, text, packed={index: stored(data) for index, data in whole.items()})


def size_of(sectors: int, grains: int, tables: int) -> int:
    directory = -(-max(1, sectors) // (128 * 65_536))
    return SECTOR * (128 + 129 * grains + 5 * tables + directory + 4)


def text_of(file: bytes) -> bytes:
    """Return the descriptor in a file."""
    return file[SECTOR : 21 * SECTOR].rstrip(b"\0")
