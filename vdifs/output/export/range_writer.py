"""Writing ranges of an output file: each is allocated before it is written where that is faster, on ext4."""

import os

from vdifs.linux.filesystems import EXT, filesystem_type, reserve

__all__ = ["RangeWriter"]


class RangeWriter:
    """Writes to one open file. Safe to use from several threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reserves = filesystem_type(fd) == EXT

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset`. Raises OSError."""
        if self._reserves:
            self._reserves = reserve(self._fd, offset, len(data))
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, offset)
            offset, view = offset + count, view[count:]
