"""Telling the C library to keep the memory that reads use over and over.

Each large read needs a buffer of up to 1 MiB. By default glibc gives that back to the kernel after each and asks for it
again for the next, and faulting in the pages costs more than filling them: 0.9 GB/s against 6.8 GB/s, measured with
`preadv` of cached data into new buffers.
"""

from vdifs.linux.libc import call, has

__all__ = ["keep_read_buffers"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_KEPT = 8 << 20
_MAPPED = 4 << 20


def keep_read_buffers() -> None:
    """Keep up to 8 MiB of freed memory, in at most two heaps. Does nothing where the C library has no such setting."""
    if not has("mallopt"):
        return
    call("mallopt", _M_TRIM_THRESHOLD, _KEPT)
    call("mallopt", _M_TOP_PAD, 1 << 20)
    call("mallopt", _M_MMAP_THRESHOLD, _MAPPED)
    call("mallopt", _M_ARENA_MAX, 2)
