"""What frames are, byte by byte, by what `vdifs.output.frame.Frame` says of itself."""

import zlib
from collections.abc import Sequence

from vdifs.output.frame import Frame


def framed(frame: Frame, payload: bytes, sectors: Sequence[int]) -> bytes:
    """Return a frame for each of `sectors`, the numbers that they have; payload: what all of them carry."""
    return b"".join(
        _one(frame, payload[at : at + frame.payload], sector)
        for at, sector in zip(range(0, len(payload), frame.payload), sectors, strict=True)
    )


def _one(frame: Frame, carried: bytes, sector: int) -> bytes:
    one, at = bytearray(frame.size), 0
    for place, literal in frame.literals:
        one[place : place + len(literal)] = literal
    for start, stop in frame.runs:
        one[start:stop] = carried[at : at + stop - start]
        at += stop - start
    assert at == len(carried) == frame.payload
    if frame.number_at >= 0:
        one[frame.number_at : frame.number_at + 8] = sector.to_bytes(8, "little")
    if frame.sum_at >= 0:
        one[frame.sum_at : frame.sum_at + 4] = zlib.adler32(carried).to_bytes(4, "big")
    assert len(one) == frame.size
    return bytes(one)
