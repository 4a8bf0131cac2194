"""Compressed clusters byte by byte: what packs them, and how one is put in the place of another."""

import zlib

import zstandard

from tests.support.image_file import Image
from tests.support.qcow2 import COMPRESSED
from tests.support.units import SECTOR

METHODS = {"zlib": "deflate", "zstd": "zstd"}
"""QEMU's names of the compression types, and what they are."""


def pack(method: str, data: bytes) -> bytes:
    if method == "zstd":
        return zstandard.ZstdCompressor().compress(data)
    packer = zlib.compressobj(wbits=-12)
    return packer.compress(data) + packer.flush()


def put(image: Image, packed: bytes, *, sectors: int | None = None, at: int | None = None, cluster: int = 1) -> None:
    """Make `packed` the compressed bytes of a cluster of 64 KiB; sectors: as many are stated, one more than needed."""
    offset = image.append(b"") if at is None else at
    image.write(offset, packed)
    stated = (offset % SECTOR + len(packed) + SECTOR - 1) // SECTOR if sectors is None else sectors
    image.set_l2(cluster, COMPRESSED | (stated - 1) << (62 - 8) | offset)
