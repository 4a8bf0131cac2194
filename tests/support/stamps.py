"""Test data that say where they belong: each 16 bytes carry the guest block they are in and who wrote them.

A wrong byte then tells by itself whether it is stale (another generation) or misplaced (another block).
"""

import struct
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

BLOCK_SIZE = 512
STAMP = struct.Struct(">2sHIQ")  # magic, generation, zero, guest block index
MAGIC = b"VD"


def stamped(start: int, length: int, generation: int) -> bytes:
    """Return the bytes that `generation` writes to the guest range [start, start + length), of any alignment."""
    first = start // BLOCK_SIZE
    count = -(-(start + length) // BLOCK_SIZE) - first
    stamps = np.zeros((count, BLOCK_SIZE // STAMP.size), dtype=[("head", ">u8"), ("block", ">u8")])
    stamps["head"] = int.from_bytes(STAMP.pack(MAGIC, generation, 0, 0)[:8], "big")
    stamps["block"] = np.arange(first, first + count, dtype=np.uint64)[:, np.newaxis]
    skip = start - first * BLOCK_SIZE
    return stamps.tobytes()[skip : skip + length]


def difference(found: bytes, wanted: bytes, start: int) -> str | None:
    """Return None if both are equal, else which guest ranges from `start` on differ, and what they hold."""
    if found == wanted:
        return None
    if len(found) != len(wanted):
        return f"{len(found)} bytes instead of {len(wanted)} from {start:#x}"
    unlike = np.frombuffer(found, np.uint8) != np.frombuffer(wanted, np.uint8)
    lines = []
    for block in list(runs_of_blocks(unlike, start))[:8]:
        low = max(block.start * BLOCK_SIZE - start, 0)
        high = block.start * BLOCK_SIZE + BLOCK_SIZE - start
        lines.append(
            f"blocks {block.start:#x} to {block.stop - 1:#x}: "
            f"found {describe(found[low:high])}, wanted {describe(wanted[low:high])}"
        )
    return "\n".join(lines)


def runs_of_blocks(unlike: npt.NDArray[np.bool_], start: int) -> Iterator[range]:
    """Yield the runs of guest blocks in which a byte differs."""
    blocks = np.unique((np.flatnonzero(unlike) + start) // BLOCK_SIZE)
    for _, run in groupby(enumerate(blocks.tolist()), key=lambda pair: pair[1] - pair[0]):
        members = [block for _, block in run]
        yield range(members[0], members[-1] + 1)


def describe(data: bytes) -> str:
    """Say what one block holds."""
    if not any(data):
        return "zeros"
    at = data.find(MAGIC)
    if at < 0 or len(data) - at < STAMP.size:
        return f"bytes {data[:16].hex(' ')}"
    _, generation, _, block = STAMP.unpack_from(data, at)
    return f"generation {generation:#x} of block {block:#x}"
