"""Moving the bytes of an image into an open descriptor, as the kernel does it fastest.

target           how
pipe, device     in order, one buffer. Moving the pages of the sources into a pipe takes half the time, but they stay
                 the sources' pages as long as any pipe further down holds them: who writes to a source changes them
file, any        the ranges that hold data, by several threads; runs of zeros become holes
file on ext4     the same, each run allocated before it is written: 0.16 s instead of 0.26 s for 1.5 GiB
file on XFS,     blocks that lie aligned in their source are shared with it, the others copied
btrfs ...
"""

import fcntl
import os
import select
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from threading import Event, Lock

import numpy as np
from numpy.typing import NDArray

from vdifs.output.export.range_writer import RangeWriter
from vdifs.output.export.sharing import BlockSharer
from vdifs.output.image import Image
from vdifs.output.protocol import Region

__all__ = ["Progress", "to_file", "to_stream"]

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

_CHUNK = 1 << 20
_STREAM_CHUNK = 1 << 18
"""What is read stays in a processor's own cache until it is written: 0.6 s instead of 0.7 s for 1.5 GiB."""
_PIPE_SIZE = 1 << 20
_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)
_WORKERS = 3
_RANGES_AT_ONCE = 4096
_REPORT_S = 0.1


def to_stream(image: Image, fd: int, progress: Progress | None = None) -> None:
    """Write the whole `image` to `fd` in order: a pipe, a socket, a device, a file. It may be in non-blocking mode."""
    _enlarge(fd)
    buffer = memoryview(bytearray(_STREAM_CHUNK))
    for offset in range(0, image.size, _STREAM_CHUNK):
        _write_in_order(fd, buffer[: image.readinto_at(offset, buffer)])
        if progress:
            progress(min(offset + _STREAM_CHUNK, image.size), image.size)
    image.check_unchanged()  # also those that were read first


def _enlarge(fd: int) -> None:
    """Have a pipe hold more, for the sake of speed."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < _PIPE_SIZE:
        with suppress(OSError):  # a user may have many pipes, or small ones, only
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


def _write_in_order(fd: int, data: memoryview) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            ready = select.poll()
            ready.register(fd, select.POLLOUT)
            ready.poll()


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
        self._writer = RangeWriter(fd)
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
        while workers:
            workers.pop(0).result()  # not kept here: its error would hold this frame, and the frame its error

    def _to_copy(self) -> Iterator[tuple[Region, int, int]]:
        """Yield ranges to copy, each of a region, sharing on the way what can be shared."""
        sharer = BlockSharer(self._image, self._fd)
        for region in self._image.regions():
            ranges = _joined(sharer.share(region))
            for first in range(0, len(ranges), _RANGES_AT_ONCE):
                for start, stop in ranges[first : first + _RANGES_AT_ONCE].tolist():
                    for at in range(start, stop, _CHUNK):
                        yield region, at, min(at + _CHUNK, stop)
            self._done = max(self._done, region.stop)

    def _work(self) -> None:
        buffer = bytearray(_CHUNK)  # one for all: a new one for each chunk costs more than what it is filled with
        try:
            while not self._stopped.is_set():
                with self._lock:
                    part = next(self._ranges, None)
                if part is None:
                    return
                region, start, stop = part
                view = memoryview(buffer)[: stop - start]
                if region.readinto is not None:
                    region.readinto(start - region.start, view)
                else:
                    self._image.readinto_at(start, view)
                self._write(start, buffer, stop - start)
                self._done = max(self._done, start)
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
                self._writer.write(offset + start, view[start : min(at, length)])
                start = None


def _joined(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return sorted ranges with those joined between which less than a hole lies: int64, shape (n, 2)."""
    if not len(ranges):
        return ranges
    breaks = ranges[1:, 0] - ranges[:-1, 1] >= _HOLE
    return np.stack([ranges[np.append(True, breaks), 0], ranges[np.append(breaks, True), 1]], 1)
