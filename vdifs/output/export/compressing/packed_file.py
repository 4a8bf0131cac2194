"""A synthetic qcow2 into a file whose clusters are packed: read and packed by one thread a processor, put down by one.

    image         tables | c0 c1 c2 | c3 c4 c5 | c6 ...           batches of clusters, in guest order
                             |          |
    threads               pack them  pack them  ...               as many at a time as are bounded here
                              \\        |
    this thread           places them in order, writes            so where anything lies hangs on no thread's speed

The image has a layout already; this reads its bytes, as any reader of qcow2 would, and knows nothing of what they are
made of. Clusters that are packed in it by the same codec are carried over, to where their packed bytes end.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, local

import numpy as np

from vdifs.formats.qcow2.entries import decode_l1, encode_tables
from vdifs.formats.qcow2.header import Header
from vdifs.formats.qcow2.inflate import Inflater
from vdifs.formats.qcow2.packed_tables import PackedTable
from vdifs.output.export.compressing.batches import Batch, batches_of
from vdifs.output.export.compressing.carried import CarriedClusters
from vdifs.output.export.compressing.compression import Compression
from vdifs.output.export.compressing.compressors import compressor
from vdifs.output.export.compressing.headers import packed_header, with_tables
from vdifs.output.export.compressing.host_clusters import HostClusters
from vdifs.output.export.range_writer import RangeWriter
from vdifs.output.image import Image

__all__ = ["to_packed_file"]

Progress = Callable[[int, int], None]
"""Called with the bytes of guest data done and those in all."""

_BATCH = 1 << 20
"""So many bytes are one thread's work at a time, or one cluster, if that is larger."""
_BATCHES_AHEAD = 2
"""So many more than there are threads are read, or packed, before they can be put down."""
_RUN = 1 << 20
"""So many bytes that lie one behind the other are written at once."""
_REPORT_S = 0.1
_L1_PART = 1 << 16
_HEAD = 4096
"""More than a header, its extensions and a backing file name of 1023 bytes."""

_Job = tuple[Batch | PackedTable, "Future[list[bytes]] | None"]
"""A batch with its packed clusters to come, or a table whose batches are all before it."""


def to_packed_file(image: Image, fd: int, compression: Compression, progress: Progress | None = None) -> None:
    """Write `image`, a full image or a delta as qcow2, to the empty regular file `fd`, with its clusters packed.

    What is packed in `image` must be so by the same codec. What does not shrink stays plain; what is zeros by its bytes
    is left out, or in a delta marked as zeros. Same image, compression and versions of the libraries: same bytes.
    Raises what reading does, OSError, and UsageError where the file would be too large for its clusters; then `fd`
    holds anything.
    """
    _PackedFile(image, fd, compression).run(progress)
    image.check_unchanged()
    if progress:
        progress(image.allocated, image.allocated)


class _PackedFile:
    """One such file in the making."""

    def __init__(self, image: Image, fd: int, compression: Compression) -> None:
        self._image, self._fd = image, fd
        self._read = Header.parse(image.read_at(0, _HEAD))
        assert not image.packed or self._read.compression_type == compression.type, "one file has one codec"
        self._header = packed_header(self._read, compression.type)
        self._geometry = self._read.geometry
        self._cluster_size = self._geometry.cluster_size
        self._hosts = HostClusters(self._cluster_size)
        self._l1 = np.zeros(self._read.l1_size, np.int64)
        self._writer = _InOrder(RangeWriter(fd))
        self._stopped = Event()
        self._own = _ThreadsOwn(max(_BATCH, self._cluster_size), image, self._cluster_size, compression, self._stopped)
        self._zeros = bytes(self._cluster_size)
        self._done = 0

    def run(self, progress: Progress | None) -> None:
        """Write everything."""
        threads = len(os.sched_getaffinity(0))
        pending: deque[_Job] = deque()
        told = time.monotonic()
        if progress:
            progress(0, self._image.allocated)
        with ThreadPoolExecutor(threads, "pack") as pool:
            try:
                for work in self._work():
                    pending.append((work, pool.submit(self._pack, work) if isinstance(work, Batch) else None))
                    while len(pending) > threads + _BATCHES_AHEAD:
                        self._put(*pending.popleft())
                    if progress and time.monotonic() >= told + _REPORT_S:
                        told = time.monotonic()
                        progress(self._done, self._image.allocated)
                while pending:
                    self._put(*pending.popleft())
            finally:
                self._stopped.set()
        self._finish()

    def _work(self) -> Iterator[Batch | PackedTable]:
        """Yield each L2 table behind the batches of its clusters."""
        offset, count, delta = self._read.l1_table_offset, self._read.l1_size, self._read.backing_file is not None
        for first in range(0, count, _L1_PART):
            part = self._image.read_at(offset + first * 8, min(_L1_PART, count - first) * 8)
            tables = decode_l1(part, self._cluster_size)
            for index in np.flatnonzero(tables).tolist():
                data = self._image.read_at(int(tables[index]), self._cluster_size)
                table = PackedTable(data, first + index, self._geometry, delta=delta)
                yield from batches_of(table, self._cluster_size, _BATCH)
                yield table

    def _pack(self, batch: Batch) -> list[bytes]:
        """Return each cluster of a batch packed, plain where that is no shorter, empty where it is zeros."""
        if self._stopped.is_set():
            return []
        buffer, size = self._own.buffer, self._cluster_size
        view = memoryview(buffer)[: batch.length]
        read = self._image.readinto_at(batch.offset, view)
        if batch.packed:
            return self._own.carried.packed(batch, view[:read])
        assert read == batch.length, "a plain cluster lies within the file"
        clusters: list[bytes] = []
        for at, packable in zip(batch.at, batch.packable, strict=True):
            if self._stopped.is_set():
                return []
            if buffer.startswith(self._zeros, at):
                clusters.append(b"")
                continue
            plain = view[at : at + size]
            packed = self._own.compress(plain) if packable else b""
            clusters.append(packed if 0 < len(packed) < size else plain.tobytes())
        return clusters

    def _put(self, work: Batch | PackedTable, packed: "Future[list[bytes]] | None") -> None:
        if isinstance(work, PackedTable):
            self._put_table(work)
            return
        assert packed is not None, "every batch is packed"
        try:
            clusters = packed.result()
        finally:
            del packed  # its error would hold this frame, and the frame its error
        self._put_batch(work, clusters)

    def _put_batch(self, batch: Batch, clusters: list[bytes]) -> None:
        table, hosts, size = batch.table, self._hosts, self._cluster_size
        for place, cluster in zip(batch.places, clusters, strict=True):
            if not cluster:
                continue
            if batch.packed or len(cluster) < size:
                offset = hosts.packed(len(cluster))
                table.put_packed(place, offset, len(cluster))
            else:
                offset = hosts.whole()
                table.put_plain(place, offset)
            self._write(offset, cluster)
        self._done += len(clusters) * size

    def _put_table(self, table: PackedTable) -> None:
        if data := table.pack():
            offset = self._l1[table.index] = self._hosts.whole()
            self._write(offset, data)

    def _finish(self) -> None:
        """Write the tables that lie last, and the header, which makes a qcow2 of the file."""
        tables, writes = self._hosts.finish(self._geometry.clusters_for(len(self._l1) * 8))
        self._write(tables.l1_table, encode_tables(self._l1))
        for write in writes:
            self._write(write.offset, write.data)
        os.ftruncate(self._fd, tables.size)
        self._write(0, with_tables(self._header, tables).pack())
        self._writer.flush()

    def _write(self, offset: int, data: bytes) -> None:
        self._writer.write(offset, data)
        for block in self._hosts.complete_blocks():
            self._writer.write(block.offset, block.data)


class _ThreadsOwn(local):
    """What each thread has for itself."""

    def __init__(self, room: int, image: Image, cluster_size: int, compression: Compression, stopped: Event) -> None:
        self.buffer = bytearray(room)
        self.compress = compressor(compression, stopped)
        self.carried = CarriedClusters(image, Inflater(cluster_size, compression.type))


class _InOrder:
    """Joins writes that lie one behind the other."""

    def __init__(self, writer: RangeWriter) -> None:
        self._writer = writer
        self._run: list[bytes] = []
        self._start = self._end = 0

    def write(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`, perhaps not before the next flush."""
        if not data:
            return
        if offset != self._end or self._end - self._start >= _RUN:
            self.flush()
            self._start = self._end = offset
        self._run.append(data)
        self._end += len(data)

    def flush(self) -> None:
        """Write what is left."""
        if self._run:
            self._writer.write(self._start, b"".join(self._run))
            self._run = []
