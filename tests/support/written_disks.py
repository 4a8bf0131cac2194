"""What is written to a disk and to the overlays on it, drawn at random, and the array that gets the same writes."""

import random
from dataclasses import dataclass

SECTOR = 512


@dataclass(frozen=True)
class Write:
    """Some sectors of a disk: of one byte each, or of zeros."""

    offset: int
    data: bytes


def writes(rng: random.Random, size: int, *, unit: int = SECTOR, most: int = 6) -> list[Write]:
    """Return some writes: short and long ones, zeros too, at the ends of the disk more often than elsewhere."""
    units = -(-size // unit)
    found = []
    for _ in range(rng.randint(0, most)):
        length = min(rng.choice([1, 1, 2, 7, 8, 9, 63, 300, rng.randint(1, 3000)]), units)
        start = rng.choice([0, units - length, rng.randint(0, units - length), rng.randint(0, units - length)])
        low, high = start * unit, min((start + length) * unit, size)
        byte = 0 if rng.random() < 0.2 else rng.randint(1, 255)
        found.append(Write(low, _marked(byte, low, high - low)))
    return found


def _marked(byte: int, offset: int, length: int) -> bytes:
    """Return bytes of which each sector tells its place."""
    if not byte:
        return bytes(length)
    sectors = (
        byte.to_bytes(1, "big") * 8 + (at // SECTOR).to_bytes(8, "big") for at in range(offset, offset + length, SECTOR)
    )
    return b"".join(each.ljust(SECTOR, bytes([byte])) for each in sectors)[:length]


def written(below: bytes, size: int, wrote: list[Write]) -> bytes:
    """Return the disk of `size` bytes that shows `below`, and then the writes."""
    disk = bytearray(below[:size].ljust(size, b"\0"))
    for each in wrote:
        disk[each.offset : each.offset + len(each.data)] = each.data
    return bytes(disk)
