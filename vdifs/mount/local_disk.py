"""Which files the event loop may touch: those on a local disk, where fstat and cached reads never wait.

A server, or another FUSE daemon, may hang in any system call, and the whole mount with it.
"""

import ctypes
from collections.abc import Iterable

__all__ = ["all_on_local_disk"]

_PROMPT = frozenset({0xEF53, 0x58465342, 0x9123683E})
"""f_type in statfs(2) of ext2/3/4, XFS, btrfs."""


class _Statfs(ctypes.Structure):
    """struct statfs: its first field, and room for the rest."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 256))


_libc = ctypes.CDLL(None, use_errno=True)


def all_on_local_disk(descriptors: Iterable[int]) -> bool:
    """Tell whether every open file lies on a local disk. May block: statfs asks the file system."""
    return all(_type_of(descriptor) in _PROMPT for descriptor in descriptors)


def _type_of(descriptor: int) -> int | None:
    result = _Statfs()
    failed = _libc.fstatfs(descriptor, ctypes.byref(result)) != 0
    return None if failed else int(result.f_type) & 0xFFFFFFFF
