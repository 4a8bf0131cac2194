"""A grain as it is stored: a zlib stream that compresses nothing, so that it has one length whatever it holds.

        0   u64 sector of the disk, u32 bytes of the stream     the marker
       12   78 01                                               zlib header
       14   00 FF FF 00 00                                      a stored block of 65,535 bytes follows
       19   65,535 bytes of data
    65554   01 01 00 FE FF                                      the last block, of 1 byte, follows
    65559   1 byte of data
    65560   Adler-32 of the data, big-endian
    65564   zeros, to the end of the sector

See docs/formats.md, Writing, and RFC 1950, 1951.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.vmdk.stream import MARKER_SIZE, Marker
from vdifs.output.frame import Frame
from vdifs.units import SECTOR, round_up

__all__ = ["FRAME", "GRAIN_BITS", "GRAIN_SECTORS", "GRAIN_SIZE", "STORED_SIZE", "fill_stored", "holds_sum", "pieces_of"]

GRAIN_BITS = 16
GRAIN_SIZE = 1 << GRAIN_BITS
GRAIN_SECTORS = GRAIN_SIZE // SECTOR
_ZLIB = bytes.fromhex("7801")
_MOST_IN_BLOCK = (1 << 16) - 1
"""Bytes of a stored block at most: one less than a grain has."""
_SUM_SIZE = 4


def _block(length: int, *, last: bool) -> bytes:
    """Return what stands before the bytes of a stored block."""
    return bytes([last]) + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")


_FIRST, _LAST = _block(_MOST_IN_BLOCK, last=False), _block(GRAIN_SIZE - _MOST_IN_BLOCK, last=True)
_STREAM_SIZE = len(_ZLIB) + len(_FIRST) + len(_LAST) + GRAIN_SIZE + _SUM_SIZE
_BEFORE = Marker(0, _STREAM_SIZE).pack() + _ZLIB + _FIRST
_BETWEEN_AT = len(_BEFORE) + _MOST_IN_BLOCK
_SUM_AT = MARKER_SIZE + _STREAM_SIZE - _SUM_SIZE
STORED_SIZE = round_up(_SUM_AT + _SUM_SIZE, SECTOR)
"""Bytes of a stored grain."""
FRAME = Frame(
    size=STORED_SIZE,
    payload=GRAIN_SIZE,
    runs=((len(_BEFORE), _BETWEEN_AT), (_BETWEEN_AT + len(_LAST), _SUM_AT)),
    literals=((0, _BEFORE), (_BETWEEN_AT, _LAST)),
    number_at=0,
    sum_at=_SUM_AT,
)


def _template() -> NDArray[np.uint8]:
    """Return a stored grain without marker, data and sum."""
    template = np.zeros(STORED_SIZE, np.uint8)
    for at, literal in FRAME.literals:
        template[at : at + len(literal)] = np.frombuffer(literal, np.uint8)
    return template


_TEMPLATE = _template()


def holds_sum(start: int, stop: int) -> bool:
    """Return whether the sum, which follows from all of the data, is in [start, stop) of a stored grain."""
    return start < _SUM_AT + _SUM_SIZE and stop > _SUM_AT


def fill_stored(stored: NDArray[np.uint8], indices: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
    """Fill `stored`, shape (n, STORED_SIZE), with whole grains.

    indices: which of the disk they are. data: their bytes, shape (n, GRAIN_SIZE).
    """
    from isal import isal_zlib  # whose sums take a fifth of zlib's time; only for who reads grains

    at = 0
    for start, stop in FRAME.runs:
        stored[:, at:start] = _TEMPLATE[at:start]
        payload = FRAME.carried(start)
        stored[:, start:stop] = data[:, payload : payload + stop - start]
        at = stop
    stored[:, at:] = _TEMPLATE[at:]
    stored[:, :8] = _in_bytes(indices * GRAIN_SECTORS, "<u8")
    stored[:, _SUM_AT : _SUM_AT + _SUM_SIZE] = _in_bytes([isal_zlib.adler32(row) for row in data], ">u4")


def pieces_of(index: int, start: int, buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Fill `buffer` from byte `start` of a stored grain on, but for its data, and yield where these belong.

    index: of the grain on the disk. Yields the offset in its data, and the part of the buffer. The sum stays zeros.
    """
    stop = start + len(buffer)
    buffer[:] = _TEMPLATE[start:stop].data
    if start < MARKER_SIZE:
        marker = Marker(index * GRAIN_SECTORS, _STREAM_SIZE).pack()[start:stop]
        buffer[: len(marker)] = marker
    for low, high in FRAME.runs:
        if (begin := max(low, start)) < (end := min(high, stop)):
            yield FRAME.carried(begin), buffer[begin - start : end - start]


def _in_bytes(numbers: "NDArray[np.int64] | list[int]", dtype: str) -> NDArray[np.uint8]:
    """Return the bytes of each number: uint8, a row for each."""
    return np.array(numbers, dtype).view(np.uint8).reshape(len(numbers), -1)
