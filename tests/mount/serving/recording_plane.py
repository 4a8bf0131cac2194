"""A data plane that only takes down what it is told, and can say which bytes would be read by that."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tests.support.frames import framed
from vdifs.extents import Kind
from vdifs.output.frame import Frame

Stamp = tuple[int, int, int, int]


class Range(NamedTuple):
    """One range that was published. told: the bytes themselves, or the arrays. frame: see Region."""

    start: int
    stop: int
    told: Any
    frame: Frame | None = None


@dataclass
class Source:
    """A file as the plane knows it. ranges: in the order in which they were published."""

    size: int
    stamps: list[Stamp]
    data_files: int
    handles: set[int] = field(default_factory=set)
    ranges: list[Range] = field(default_factory=list)

    @property
    def are_as_stamped(self) -> bool:
        """Whether the plane would answer at all."""
        return all(stamp == stamp_of(stamp[0]) for stamp in self.stamps)

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Return what the plane would answer, all of it from one range."""
        (found,) = (each for each in self.ranges if each.start <= offset and offset + length <= each.stop)
        if isinstance(found.told, bytes):
            return found.told[offset - found.start :][:length]
        if found.frame is not None:
            return self._framed(found, found.frame)[offset - found.start :][:length]
        at, end = offset - found.start, offset - found.start + length
        data = bytearray(length)
        for out, stop, host, kind, file in zip(*(np.asarray(each).tolist() for each in found.told[:5]), strict=True):
            assert kind == Kind.DATA
            assert file < self.data_files
            low, high = max(out, at), min(stop, end)
            if low < high:
                piece = os.pread(self.stamps[file][0], high - low, host + low - out)
                data[low - at : high - at] = piece.ljust(high - low, b"\0")
        return bytes(data)

    def _framed(self, found: "Range", frame: Frame) -> bytes:
        """Return all bytes of a range in frames."""
        data = bytearray((found.stop - found.start) // frame.size * frame.payload)
        for out, stop, host, kind, file in zip(*(np.asarray(each).tolist() for each in found.told[:5]), strict=True):
            assert kind == Kind.DATA
            assert file < self.data_files
            data[out:stop] = os.pread(self.stamps[file][0], stop - out, host).ljust(stop - out, b"\0")
        return framed(frame, bytes(data), sectors_of(found.told, len(data) // frame.payload))


def sectors_of(told: Any, count: int) -> list[int]:
    """Return the sectors at which `count` grains begin that are all there, and follow one another on the disk."""
    (guest,) = told[5].tolist()
    return [guest // 512 + 128 * index for index in range(count)]


def stamp_of(descriptor: int) -> Stamp:
    """Return how an open file is now."""
    now = os.fstat(descriptor)
    return descriptor, now.st_size, now.st_mtime_ns, now.st_ctime_ns


@dataclass
class RecordingPlane:
    """sources: those that it knows now. read: what it says of each handle, and `served` of all. error: it has that."""

    sources: dict[int, Source] = field(default_factory=dict)
    withdrawn: list[int] = field(default_factory=list)
    read: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    served: tuple[int, int] = (0, 0)
    error: Exception | None = None

    @property
    def only(self) -> Source:
        """The one file that it knows."""
        (source,) = self.sources.values()
        return source

    def add(self, key: int, size: int, stamps: Sequence[Stamp], data_files: int, has_holes: bool = False, /) -> None:
        del has_holes
        self._fail()
        assert key not in self.sources
        self.sources[key] = Source(size, list(stamps), data_files)

    def restamp(self, key: int, stamps: Sequence[Stamp], /) -> bool:
        self._fail()
        assert len(stamps) == len(self.sources[key].stamps)
        self.sources[key].stamps = list(stamps)
        return True

    def withdraw(self, key: int, /) -> None:
        for handle in self.sources.pop(key).handles:
            self.read.pop(handle, None)
        self.withdrawn.append(key)

    def publish(self, key: int, start: int, stop: int, arrays: Any, cost: int, /) -> bool:
        self._fail()
        assert cost > 0 or not len(arrays[0])
        self._put(key, Range(start, stop, arrays))
        return True

    def publish_framed(self, key: int, start: int, stop: int, arrays: Any, frame: Frame, cost: int, /) -> bool:
        self._fail()
        assert cost > 0
        self._put(key, Range(start, stop, arrays, frame))
        return True

    def publish_bytes(self, key: int, start: int, data: bytes, /) -> bool:
        self._fail()
        self._put(key, Range(start, start + len(data), data))
        return True

    def covers(self, key: int, start: int, stop: int, /) -> bool:
        for each in sorted(self.sources[key].ranges, key=lambda each: each.start):
            if each.start <= start < each.stop:
                start = each.stop
        return start >= stop

    def open(self, handle: int, key: int, /) -> bool:
        self._fail()
        self.sources[key].handles.add(handle)
        return True

    def close(self, handle: int, /) -> tuple[int, int, int]:
        for source in self.sources.values():
            source.handles.discard(handle)
        return self.read.pop(handle, (0, 0, 0))

    def counts(self, handle: int, /) -> tuple[int, int, int]:
        return self.read.get(handle, (0, 0, 0))

    def _put(self, key: int, new: Range) -> None:
        ranges = self.sources[key].ranges
        ranges[:] = [each for each in ranges if each.stop <= new.start or new.stop <= each.start]
        ranges.append(new)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
