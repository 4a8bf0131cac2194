"""Which files the event loop may touch: those on a local disk, where fstat and cached reads never wait.

A server, or another FUSE daemon, may hang in any system call, and the whole mount with it.
"""

from collections.abc import Iterable

from vdifs.linux.filesystems import BTRFS, EXT, XFS, filesystem_type

__all__ = ["all_on_local_disk"]

_PROMPT = frozenset({EXT, XFS, BTRFS})


def all_on_local_disk(descriptors: Iterable[int]) -> bool:
    """Tell whether every open file lies on a local disk. May block: statfs asks the file system."""
    return all(filesystem_type(descriptor) in _PROMPT for descriptor in descriptors)
