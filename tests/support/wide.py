"""Chains that exist only as statements, as those of `stated`, with runs of up to some MiB; and the disk on top of each.

For outputs of large blocks: the disk of `stated` is looked up grain by grain, which takes too long here.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from tests.support.stated import KINDS, SECTOR, Run, StatedChain, StatedFile, StatedLayer
from vdifs.chain.flattening import AT_ONCE
from vdifs.extents import Kind

KIB, MIB = 1 << 10, 1 << 20
_LENGTHS = (SECTOR, 4 * KIB, 64 * KIB, 300 * KIB, MIB, 2 * MIB - SECTOR, 2 * MIB, 5 * MIB)


@dataclass(frozen=True)
class WideDisk:
    """contents: the disk. data: of each sector, whether the chain says that data are there."""

    contents: bytes
    data: npt.NDArray[np.bool_]


def draw_chain(rng: Random, largest: int = 9 * MIB) -> StatedChain:
    """Draw one to three layers, each of its own size, whose runs end at any sector; resolved in many parts or one."""
    layers = tuple(_layer(rng, number, largest) for number in range(rng.randint(1, 3)))
    return StatedChain(layers, rng.choice([AT_ONCE, AT_ONCE, 8, 128]))


def disk_of(stated: StatedChain) -> WideDisk:
    """Return the disk on top: layers are laid over one another from the lowest up, each cut or filled up with zeros."""
    contents, data = bytearray(), np.zeros(0, np.bool_)
    for layer in reversed(stated.layers):
        size = layer.virtual_size
        contents = contents[:size].ljust(size, b"\0")
        data = np.concatenate([data[: size // SECTOR], np.zeros(max(0, size // SECTOR - len(data)), np.bool_)])
        at = 0
        for length, kind, host in layer.runs:
            if kind != Kind.UNALLOCATED:
                is_data = kind == Kind.DATA
                found = StatedFile(layer.number).read_at(host, length) if is_data else bytes(length)
                contents[at : at + length] = found
                data[at // SECTOR : (at + length) // SECTOR] = is_data
            at += length
    return WideDisk(bytes(contents), data)


def _layer(rng: Random, number: int, largest: int) -> StatedLayer:
    left, runs = rng.choice([0, SECTOR, rng.randint(1, largest // SECTOR) * SECTOR]), list[Run]()
    if not number and rng.random() < 0.8:
        left = rng.randint(1, largest // SECTOR) * SECTOR
    while left:
        length, kind = min(rng.choice(_LENGTHS), left), rng.choice(KINDS)
        runs.append((length, kind, rng.randint(0, 1 << 20) * SECTOR if kind == Kind.DATA else 0))
        left -= length
    return StatedLayer(tuple(runs), number)
