"""Sharing blocks of the source files with an output file, where the file system can: XFS, btrfs, and others to come.

A shared range costs one system call, however long it is, and no space.
"""

import fcntl
import os
import struct

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import Kind
from vdifs.output.image import Image
from vdifs.output.protocol import Region
from vdifs.storage.host_file import HostFile

__all__ = ["BlockSharer"]

_FICLONERANGE = 0x4020940D
_LEAST = 1 << 16
"""Shorter ranges are copied, which is faster; from here on it takes as long, and space besides."""


class BlockSharer:
    """Shares blocks of an image's source files with the file `fd`."""

    def __init__(self, image: Image, fd: int) -> None:
        self._files = image.chain.data_files
        self._fd = fd
        self._block = os.fstatvfs(fd).f_bsize
        self._apart: set[HostFile] = set()
        """The descriptors of files that cannot share with `fd`: on another file system, or on one that cannot."""

    def share(self, region: Region) -> NDArray[np.int64]:
        """Share what can be shared of `region`; return the rest, less its zeros: int64, shape (n, 2), sorted, apart."""
        if region.pieces is None or region.frame is not None:
            return np.array([[region.start, region.stop]], np.int64)
        pieces = region.pieces
        ranges = np.stack([pieces.out, pieces.stop], 1) + region.start
        if len(self._apart) == len(self._files):
            return ranges
        left = [np.empty((0, 2), np.int64)]
        done = 0
        fit = (pieces.kind == Kind.DATA) & (pieces.stop - pieces.out >= _LEAST)
        fit &= (ranges[:, 0] % self._block == 0) & (pieces.host % self._block == 0)
        for index in np.flatnonzero(fit).tolist():
            start, stop = ranges[index].tolist()
            shared = self._share(int(pieces.file[index]), int(pieces.host[index]), start, stop - start)
            if shared:
                rest = [[start + shared, stop]] if start + shared < stop else []
                left += [ranges[done:index], np.array(rest, np.int64).reshape(-1, 2)]
                done = index + 1
        return np.concatenate([*left, ranges[done:]])

    def _share(self, index: int, host: int, offset: int, length: int) -> int:
        """Return how many bytes were shared, in whole blocks, which excludes a last one beyond the source's end."""
        file = self._files[index]
        length = min(length, file.size - host) // self._block * self._block
        if length <= 0 or file in self._apart:
            return 0
        try:
            with file.users:
                fcntl.ioctl(self._fd, _FICLONERANGE, struct.pack("qQQQ", file.fd, host, length, offset))
        except OSError:  # it is copied then, and a disk that is full or broken tells that
            self._apart.add(file)
            return 0
        return length
