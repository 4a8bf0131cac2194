"""Moving the bytes of an image into an open descriptor, as the kernel does it fastest.

target           how
pipe, device     in order, one buffer, into a pipe as large as the kernel allows
file, any        the ranges that hold data, by several threads; runs of zeros become holes
file on ext4     the same, each run allocated before it is written: 0.16 s instead of 0.26 s for 1.5 GiB
file on XFS,     blocks that lie aligned in their source are shared with it, the others copied
btrfs ...
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from threading import Event, Lock

import numpy as np
from numpy.typing import NDArray

from vdifs.source.filesystem import EXT, filesystem_type, reserve
from vdifs.synthetic.image import Image
from vdifs.synthetic.sharing import BlockSharer

__all__ = ["Progress", "to_file", "to_stream"]

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

_CHUNK = 1 << 20
_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)
_WORKERS = 3
_REPORT_S = 0.1


def to_stream(image: Image, fd: int, progress: Progress | None = None) -> None:
    """Write the whole `image` to `fd` in order: a pipe, a socket, a device, a file."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        with suppress(OSError):  # the size is a matter of speed alone
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _CHUNK)
    buffer = memoryview(bytearray(_CHUNK))
    for offset in range(0, image.size, _CHUNK):
        data = buffer[: image.readinto_at(offset, buffer)]
        while data:
            data = data[os.write(fd, data) :]
        if progress:
            progress(min(offset + _CHUNK, image.size), image.size)


def to_file(image: Image, fd: int, progress: Progress | None = None) -> None:
    """Write `image` to the empty regular file `fd`. Raises what reading does, OSError; then `fd` holds anything."""
    os.ftruncate(fd, image.size)
    _Copy(image, fd).run(progress)
    image.check_unchanged()  # what is shared was not read
    if progress:
        progress(image.size, image.size)


class _Copy:
    """One image on its way into one file."""

    def __init__(self, image: Image, fd: int) -> None:
        self._image, self._fd = image, fd
        self._reserves = filesystem_type(fd) == EXT
        self._ranges = self._to_copy()
        self._lock = Lock()
        self._stopped = Event()
        self._done = 0

    def run(self, progress: Progress | None) -> None:
        """Copy everything."""
        with ThreadPoolExecutor(_WORKERS, "export") as pool:
            workers = [pool.submit(self._work) for _ in range(_WORKERS)]
            told = 0
            try:
                pending: set[Future[None]] = set(workers)
                while pending:
                    pending = wait_for(pending, _REPORT_S).not_done
                    if progress and pending:
                        told = max(told, self._done)
                        progress(told, self._image.size)
            finally:
                self._stopped.set()
        for worker in workers:
            worker.result()

    def _to_copy(self) -> Iterator[tuple[int, int]]:
        """Yield ranges to copy, sharing on the way what can be shared."""
        sharer = BlockSharer(self._image, self._fd)
        for region in self._image.regions():
            for start, stop in _joined(sharer.share(region)).tolist():
                for at in range(start, stop, _CHUNK):
                    yield at, min(at + _CHUNK, stop)
            self._done = max(self._done, region.stop)

    def _work(self) -> None:
        buffer = bytearray(_CHUNK)  # one for all: a new one for each chunk costs more than what it is filled with
        try:
            while not self._stopped.is_set():
                with self._lock:
                    part = next(self._ranges, None)
                if part is None:
                    return
                count = self._image.readinto_at(part[0], memoryview(buffer)[: part[1] - part[0]])
                self._write(part[0], buffer, count)
                self._done = max(self._done, part[0])
        except BaseException:
            self._stopped.set()
            raise

    def _write(self, offset: int, chunk: bytearray, length: int) -> None:
        """Write the parts of the first `length` bytes that are not zeros, joined where they touch."""
        view = memoryview(chunk)
        start: int | None = None
        for at in range(0, length + _HOLE, _HOLE):
            if at < length and not chunk.startswith(_ZEROS[: length - at], at):
                start = at if start is None else start
            elif start is not None:
                self._write_all(offset + start, view[start : min(at, length)])
                start = None

    def _write_all(self, offset: int, data: memoryview) -> None:
        if self._reserves:
            self._reserves = reserve(self._fd, offset, len(data))
        while data:
            count = os.pwrite(self._fd, data, offset)
            offset, data = offset + count, data[count:]


def _joined(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return sorted ranges with those joined between which less than a hole lies: int64, shape (n, 2)."""
    if not len(ranges):
        return ranges
    breaks = ranges[1:, 0] - ranges[:-1, 1] >= _HOLE
    return np.stack([ranges[np.append(True, breaks), 0], ranges[np.append(breaks, True), 1]], 1)
