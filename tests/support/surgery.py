"""Changes to an image that QEMU's tools do not make, but that images in the wild have gone through.

Each function edits one file in place and leaves a valid image, whose contents QEMU can be asked for.
"""

import os
import struct
from pathlib import Path
from random import Random

from tests.support import oracle

BACKING_FORMAT = 0xE2792ACA
END_OF_EXTENSIONS = 0


def virtual_size_in_header(image: Path, size: int) -> None:
    """Write another virtual size into the header (qemu-img rounds to 512, other programs do not)."""
    with image.open("r+b") as file:
        file.seek(24)
        file.write(struct.pack(">Q", size))


def forget_backing_format(image: Path) -> None:
    """Remove the backing format extension, as in images older than it; the others move up."""
    with image.open("r+b") as file:
        version, backing_offset = struct.unpack_from(">IQ", file.read(104), 4)
        start = 72 if version == 2 else header_length(image)
        file.seek(start)
        area = file.read(backing_offset - start)
        kept = b"".join(packed for kind, packed in extensions(area) if kind != BACKING_FORMAT)
        file.seek(start)
        file.write(kept.ljust(len(area), b"\0"))


def header_length(image: Path) -> int:
    with image.open("rb") as file:
        file.seek(100)
        (length,) = struct.unpack(">I", file.read(4))
    return int(length)


def extensions(area: bytes) -> list[tuple[int, bytes]]:
    """Return the type and the packed bytes of each header extension."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 8 <= len(area):
        kind, length = struct.unpack_from(">II", area, at)
        if kind == END_OF_EXTENSIONS:
            break
        size = 8 + -(-length // 8) * 8
        found.append((kind, area[at : at + size]))
        at += size
    return found


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
