"""Changes to an image that QEMU's tools do not make, but that images in the wild have gone through.

Each function edits one file in place and leaves a valid image, whose contents QEMU can be asked for.
"""

import os
from pathlib import Path
from random import Random

from tests.support import oracle, qcow2
from tests.support.image_file import Image


def virtual_size_in_header(image: Path, size: int) -> None:
    """Write another virtual size into the header (qemu-img rounds to 512, other programs do not)."""
    Image(image).set(size=size)


def forget_backing_format(image: Path) -> None:
    """Remove the backing format extension, as in images older than it; the others move up."""
    file = Image(image)
    start = qcow2.extensions_at(file.read(0, qcow2.V3_LENGTH))
    area = file.read(start, file.get("backing_file_offset") - start)
    kept = b"".join(packed for kind, packed in qcow2.extensions_in(area) if kind != qcow2.BACKING_FORMAT)
    file.write(start, kept.ljust(len(area), b"\0"))


def data_in_file(image: Path) -> list[tuple[int, int]]:
    """Return the host ranges [start, end) in which this very file holds guest data, in order of the file."""
    extents = oracle.map_of(image)
    return sorted((e.offset, e.offset + e.end - e.start) for e in extents if e.depth == 0 and e.data and e.offset)


def punch_hole(image: Path, rng: Random) -> None:
    """Give a part of the file's guest data back to the host, as `fstrim` inside and `fallocate -p` outside do."""
    ranges = data_in_file(image)
    if not ranges:
        return
    start, end = rng.choice(ranges)
    low = rng.randrange(start, end)
    length = rng.randint(1, end - low)
    oracle.run("fallocate", "--punch-hole", "--offset", str(low), "--length", str(length), image)


def dig_holes(image: Path) -> None:
    """Turn all zeros of the file into holes, as a copy with `cp --sparse=always` has them."""
    oracle.run("fallocate", "--dig-holes", image)


def cut_last_cluster(image: Path, cluster_size: int, rng: Random) -> None:
    """Truncate the file within its last cluster, if that holds guest data: readers take the rest for zeros."""
    ranges = data_in_file(image)
    if not ranges:
        return
    last_cluster = (ranges[-1][1] - 1) // cluster_size * cluster_size
    size = image.stat().st_size
    if last_cluster + cluster_size >= size > last_cluster + 1:
        os.truncate(image, rng.randrange(last_cluster + 1, size))
