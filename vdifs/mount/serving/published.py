"""What the data plane is told of open files, so that it can answer their reads by itself.

    a file is opened           the plane knows its handle, and the files that it is made of
    Python answers a read      what it had to resolve for that is published, and what comes next for a reader in order
    a source changes           the file is withdrawn: every read is Python's again
    its last handle is closed  the same

Only images on local disks, and only as long as a look at their time stamps tells whether they are as they were.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from typing import Any, Protocol

from vdifs.errors import VdifsError
from vdifs.extents import Kind
from vdifs.mount.serving.handles import Handle
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.output.frame import Frame
from vdifs.output.image import Image
from vdifs.output.protocol import Region
from vdifs.output.view import WITH_HOLES

__all__ = ["Plane", "Published"]

log = logging.getLogger("vdifs.mount")

Stamp = tuple[int, int, int, int]
_MOST_TABLE = 128 << 10
_PAGE = 4096
_AHEAD = 4
"""So many regions are resolved ahead of a reader that goes on from region to region."""
_MOST_ADVICES = 512
_MOST_SOUGHT = 16 << 10
"""So many pieces are published for one who goes from data to data: half a MiB of what the plane may keep."""
_COLD_AHEAD = 8 << 20
"""So many bytes are read ahead of one that waits for a disk."""


class Plane(Protocol):
    """What answers reads without Python: see vdifs/dataplane/_core.pyi."""

    @property
    def served(self) -> tuple[int, int]: ...
    def add(self, key: int, size: int, stamps: Sequence[Stamp], data_files: int, has_holes: bool, /) -> None: ...
    def restamp(self, key: int, stamps: Sequence[Stamp], /) -> bool: ...
    def withdraw(self, key: int, /) -> None: ...
    def publish(self, key: int, start: int, stop: int, arrays: Any, cost: int, /) -> bool: ...
    def publish_framed(self, key: int, start: int, stop: int, arrays: Any, frame: Frame, cost: int, /) -> bool: ...
    def publish_bytes(self, key: int, start: int, data: bytes, /) -> bool: ...
    def covers(self, key: int, start: int, stop: int, /) -> bool: ...
    def open(self, handle: int, key: int, /) -> bool: ...
    def close(self, handle: int, /) -> tuple[int, int, int]: ...
    def counts(self, handle: int, /) -> tuple[int, int, int]: ...


class Published:
    """What one plane was told. Until `attach` there is none, and nothing happens."""

    def __init__(self, images: OpenImages, tasks: Tasks) -> None:
        self._images = images
        self._tasks = tasks
        self._plane: Plane | None = None
        self._keys: dict[OpenImage, int] = {}
        self._handles: dict[OpenImage, dict[int, Handle]] = {}
        self._ahead: set[OpenImage] = set()
        self._numbers = count(1)

    def attach(self, plane: Plane) -> None:
        """Tell `plane` from now on."""
        self._plane = plane

    def opened(self, number: int, handle: Handle) -> None:
        """Take note of a handle."""
        opened = handle.image
        if self._plane is None or not opened.on_local_disk or opened.stale is not None:
            return
        with self._leaving_to_python(opened):
            if opened not in self._keys:
                key = next(self._numbers)
                stamps = _stamps(opened.image)
                has_holes = opened.file is not None and opened.file.view in WITH_HOLES
                self._plane.add(key, opened.image.size, stamps, len(opened.image.chain.data_files), has_holes)
                self._keys[opened] = key
            self._plane.open(number, self._keys[opened])
            self._handles.setdefault(opened, {})[number] = handle

    def closed(self, number: int, handle: Handle) -> None:
        """Forget a handle; the last one of an image takes its files from the plane."""
        if self._plane is None:
            return
        self.count(number, handle)
        self._plane.close(number)
        others = self._handles.get(handle.image, {})
        others.pop(number, None)
        if not others:
            self.withdraw(handle.image)

    def withdraw(self, opened: OpenImage) -> None:
        """Have all reads of an image be Python's from now on."""
        for number, handle in self._handles.pop(opened, {}).items():
            self.count(number, handle)
        key = self._keys.pop(opened, None)
        if self._plane is not None and key is not None:
            self._plane.withdraw(key)

    def count(self, number: int, handle: Handle) -> None:
        """Have a handle tell what the plane has read for it since the last time."""
        if self._plane is not None:
            reads, bytes_read, position = self._plane.counts(number)
            if reads > handle.served[0]:  # else Python has answered the last read, or it was withdrawn
                handle.served, handle.position = (reads, bytes_read), position

    def totals(self) -> tuple[int, int]:
        """Return how many reads the plane has answered, and how many bytes."""
        return (0, 0) if self._plane is None else self._plane.served

    def answered(self, opened: OpenImage, offset: int, data: bytes | memoryview, *, in_order: bool, cold: bool) -> None:
        """Publish what a read that Python has answered made known.

        in_order: it began where the one before ended. cold: it had to be waited for.
        """
        key = self._keys.get(opened)
        if self._plane is None or key is None:
            return
        end = offset + len(data)
        with self._leaving_to_python(opened):
            self._plane.restamp(key, _stamps(opened.image))
            new = not self._plane.covers(key, offset, end)
            if new:
                self._publish_known(key, opened.image, offset, data)
            if in_order and (new or cold) and opened not in self._ahead:
                self._ahead.add(opened)
                self._tasks.spawn(self._go_ahead, opened, end, cold)

    @contextmanager
    def _leaving_to_python(self, opened: OpenImage) -> Iterator[None]:
        """Withdraw an image of which the plane cannot take more: that costs no open and no read."""
        try:
            yield
        except (ValueError, MemoryError) as error:
            where = opened.image.chain.members[0].file.name
            log.warning("%s: its reads are answered by Python: %s", where, str(error) or "no memory")
            self.withdraw(opened)

    def sought(self, opened: OpenImage, offset: int, found: int) -> None:
        """Publish what an LSEEK that Python has answered made known, and have what follows resolved in one go."""
        key = self._keys.get(opened)
        if self._plane is None or key is None:
            return
        with self._leaving_to_python(opened):
            for at in (offset, found):
                region = opened.image.known(at, wait=False)
                if region is not None and not self._plane.covers(key, region.start, region.stop):
                    self._publish(key, region)
        if found < opened.image.size and opened not in self._ahead:
            self._ahead.add(opened)
            self._tasks.spawn(self._seek_ahead, opened, found)

    def _publish_known(self, key: int, image: Image, offset: int, data: bytes | memoryview) -> None:
        """Publish the regions of what was read, or the bytes themselves where these were computed."""
        assert self._plane is not None, "the caller has looked"
        at, end = offset, offset + len(data)
        while at < end and (region := image.known(at, wait=False)) is not None:
            at = region.stop
            self._publish(key, region)
        if at < end and len(data) <= _MOST_TABLE:
            for start, stop in self._unknown(key, at, end):
                self._plane.publish_bytes(key, start, bytes(data[start - offset : stop - offset]))

    def _unknown(self, key: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield what of [start, stop) is not published, in whole pages: what is would be dropped for it."""
        assert self._plane is not None, "the caller has looked"
        edges = [start, *range(start - start % _PAGE + _PAGE, stop, _PAGE), stop]
        begun: int | None = None
        for at, end in pairwise(edges):
            if not self._plane.covers(key, at, end):
                begun = at if begun is None else begun
            elif begun is not None:
                yield begun, at
                begun = None
        if begun is not None:
            yield begun, stop

    def _publish(self, key: int, region: Region) -> None:
        pieces = region.pieces
        assert self._plane is not None, "the caller has looked"
        if pieces is None:
            return
        arrays = pieces.out, pieces.stop, pieces.host, pieces.kind, pieces.file
        if region.frame is None:
            self._plane.publish(key, region.start, region.stop, arrays, pieces.nbytes)
        else:
            framed = *arrays, pieces.guest
            self._plane.publish_framed(key, region.start, region.stop, framed, region.frame, pieces.nbytes)

    async def _seek_ahead(self, opened: OpenImage, at: int) -> None:
        """Resolve and publish a long range at once, for one who goes from data to data."""
        try:
            region = await self._images.read(opened, opened.image.ahead, at, _MOST_SOUGHT)
            key = self._keys.get(opened)
            if key is None or region is None:
                return
            with self._leaving_to_python(opened):
                self._publish(key, region)
        except VdifsError:
            pass  # the reader will be told when it comes there
        finally:
            self._ahead.discard(opened)

    async def _go_ahead(self, opened: OpenImage, at: int, cold: bool) -> None:
        """Resolve and publish what a reader in order will come to, and have a disk that it waits for read already."""
        until = at + _COLD_AHEAD if cold else 0
        try:
            for _ in range(_AHEAD):
                if at >= opened.image.size or opened not in self._keys:
                    return
                region = await self._images.read(opened, _resolved, opened.image, at, until)
                key = self._keys.get(opened)
                if key is None or region is None:
                    return
                with self._leaving_to_python(opened):
                    if self._plane is not None and not self._plane.covers(key, at, region.stop):
                        self._publish(key, region)
                at = region.stop
        except VdifsError:
            pass  # the reader will be told when it comes there
        finally:
            self._ahead.discard(opened)


def _resolved(image: Image, at: int, until: int) -> Region | None:
    """Return the region around `at`; have the disk read what is in it up to `until`. Blocks."""
    region = image.known(at, wait=True)
    if region is not None and at < until and (pieces := region.pieces) is not None:
        low, high = at - region.start, min(until, region.stop) - region.start
        if region.frame is not None:
            low, high = region.frame.carried(low), region.frame.carried(high)
        first, last = pieces.stop.searchsorted(low, "right"), pieces.out.searchsorted(high, "left")
        for index in range(int(first), min(int(last), int(first) + _MOST_ADVICES)):
            if pieces.kind[index] == Kind.DATA:
                out, stop = max(low, int(pieces.out[index])), min(high, int(pieces.stop[index]))
                place = int(pieces.host[index] - pieces.out[index]) + out
                image.chain.data_files[int(pieces.file[index])].read_ahead(place, stop - out)
    return region


def _stamps(image: Image) -> list[Stamp]:
    """Return the files of an image as they were when it was opened, those that have guest data first."""
    others = [file for file in image.chain.files if file not in image.chain.data_files]
    return [file.stamp for file in (*image.chain.data_files, *others)]
