"""Copies a synthetic file through the library the way an awkward reader would: in pieces of any size."""

from pathlib import Path
from random import Random

import vdifs
from tests.support.drafts import log_uniform
from tests.support.units import MIB


def copy_in_pieces(image: vdifs.Image, output: Path, rng: Random) -> Path:
    """Read `image` in random pieces until its end into the sparse file `output`; no piece may be short before."""
    output.parent.mkdir(parents=True, exist_ok=True)
    offset = 0
    with output.open("wb") as file:
        while piece := image.read_at(offset, length := log_uniform(rng, 1, MIB)):
            assert len(piece) == min(length, image.size - offset), f"short read of {length} at {offset:#x}"
            if piece.count(0) != len(piece):
                file.seek(offset)
                file.write(piece)
            offset += len(piece)
        file.truncate(offset)
    assert offset == image.size
    return output
