"""Disks that are worth packing, the packed clusters of a qcow2 by its specification, and programs that read them."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.conftest import cannot_be_tried
from tests.support import qcow2
from tests.support.image_file import Image

_TIMEOUT_S = 100
_WORDS = [b"the ", b"cluster ", b"that ", b"shrinks ", b"is ", b"packed ", b"0123456789abcdef", b"\0\0\0\0\0\0", b"\n"]


class Packed(NamedTuple):
    """A packed cluster: its index on the disk, and the bytes up to the end of its last sector, at `offset`."""

    cluster: int
    offset: int
    data: bytes


def mixed(clusters: int, cluster_size: int, seed: int) -> bytes:
    """Return data of all kinds, cluster by cluster: text, noise, half of each, one byte over and over, zeros."""
    rng = Random(seed)
    kinds = [rng.randrange(5) for _ in range(max(0, clusters - 5))] + [0, 1, 2, 3, 4]
    return b"".join(_cluster(rng, kind, cluster_size) for kind in kinds[:clusters])


def _cluster(rng: Random, kind: int, size: int) -> bytes:
    match kind:
        case 0:
            return text(rng, size)
        case 1:
            return rng.randbytes(size)
        case 2:
            return rng.randbytes(size // 2) + text(rng, size - size // 2)
        case 3:
            return bytes([rng.randrange(1, 256)]) * size
        case _:
            return bytes(size)


def text(rng: Random, size: int) -> bytes:
    """Return words, which pack well: 64 KiB of them, and then once more with changes."""
    part = b"".join(rng.choices(_WORDS, k=min(size, 1 << 16) // 2))[: 1 << 16]
    while len(part) < size:
        part += bytes([rng.randrange(256)]) + part
    return part[:size]


def packed_clusters(path: Path) -> Iterator[Packed]:
    """Yield each packed cluster of an image, in guest order, as its tables say."""
    image = Image(path)
    bits, per_table = image.get("cluster_bits"), image.cluster_size // 8 // image.entry_words
    for index in range(image.get("l1_size")):
        if table := image.l1_entry(index) & qcow2.OFFSETS:
            entries = image.words(table, image.cluster_size // 8)[:: image.entry_words]
            for cluster, entry in enumerate(entries, index * per_table):
                if entry & qcow2.COMPRESSED:
                    offset, length = qcow2.compressed_place(entry, bits)
                    yield Packed(cluster, offset, image.read(offset, length))


_DISSECT = """
import sys, pathlib
from dissect.hypervisor.disk.qcow2 import QCow2
opened = QCow2(pathlib.Path(sys.argv[1]))
disk = opened.open() if hasattr(opened, "open") else opened
left = disk.size
while left:
    part = disk.read(min(left, 1 << 20))
    assert part
    sys.stdout.buffer.write(part)
    left -= len(part)
"""


def by_dissect(path: Path) -> bytes:
    """Return the same as dissect.hypervisor reads it. It inflates into buffers of 16 KiB, with a window of 4 KiB.

    In a process of its own: it is AGPL.
    """
    if find_spec("dissect") is None:
        cannot_be_tried("dissect.hypervisor is not installed")
    command = [sys.executable, "-W", "ignore", "-c", _DISSECT, str(path)]
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout
