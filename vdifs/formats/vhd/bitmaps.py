"""Sector bitmaps: a bit for each sector of a block, the first in the highest bit of a byte. Pure: docs/formats.md, VHD.

bitmap, hex    FF 80 | 00 00 | 3F FF        three blocks of 16 sectors
runs           [0 9)=1 [9 16)=0 | [16 32)=0 | [32 34)=0 [34 48)=1
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["bitmap_runs"]

_Runs = tuple[NDArray[np.int64], NDArray[np.bool_]]


def bitmap_runs(bitmaps: NDArray[np.uint8]) -> _Runs:
    """Return where runs of sectors with equal bits start, counted through all blocks, and whether their bits are set.

    bitmaps: uint8, one row for each block. A run begins with each block. First: int64, sorted; second: bool.
    """
    sectors = bitmaps.shape[1] * 8
    first = bitmaps[:, 0]
    uniform = ((first == 0) | (first == 0xFF)) & (bitmaps == first[:, None]).all(1)
    starts, present = np.flatnonzero(uniform) * sectors, first[uniform] != 0
    if uniform.all():
        return starts, present
    mixed = np.flatnonzero(~uniform)
    bits = np.unpackbits(bitmaps[mixed], axis=1)
    change = np.empty(bits.shape, np.bool_)
    change[:, 0] = True
    np.not_equal(bits[:, 1:], bits[:, :-1], out=change[:, 1:])
    row, column = np.nonzero(change)
    starts = np.concatenate([starts, mixed[row] * sectors + column])
    present = np.concatenate([present, bits[row, column] != 0])
    order = starts.argsort(kind="stable")
    return starts[order], present[order]
