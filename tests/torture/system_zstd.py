"""The system's libzstd, which QEMU uses, in the place of vdifs's own.

Damaged data without a checksum have no right bytes, and two versions of libzstd take them for different ones (1.5.4 and
1.5.7 do). So where vdifs and QEMU differ, vdifs is asked once more with QEMU's library: if that settles it, neither is
wrong.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import zstandard

from vdifs.formats.qcow2 import inflate

__all__ = ["in_place"]


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


def _inflate(decompressor: zstandard.ZstdDecompressor, packed: bytes, cluster_size: int) -> tuple[bytes, int]:
    """Return what ZSTD_decompressStream makes of `packed`, as qcow2_zstd_decompress calls it, and what it took."""
    del decompressor  # vdifs's own
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    context = ctypes.c_void_p(library.ZSTD_createDCtx())
    source, target = ctypes.create_string_buffer(packed, len(packed)), ctypes.create_string_buffer(cluster_size)
    taken = _Buffer(ctypes.addressof(source), len(packed), 0)
    made = _Buffer(ctypes.addressof(target), cluster_size, 0)
    try:
        while made.position < cluster_size:
            before = taken.position, made.position
            left = library.ZSTD_decompressStream(context, ctypes.byref(made), ctypes.byref(taken))
            if library.ZSTD_isError(ctypes.c_size_t(left)) or before == (taken.position, made.position):
                break
    finally:
        library.ZSTD_freeDCtx(context)
    return target.raw[: made.position], taken.position


@contextmanager
def in_place() -> Iterator[None]:
    """Have vdifs inflate with the system's library; only what is opened meanwhile is surely read with it."""
    own = inflate._inflate_zstd
    inflate._inflate_zstd = _inflate
    try:
        yield
    finally:
        inflate._inflate_zstd = own
