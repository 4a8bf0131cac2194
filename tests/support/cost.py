"""What it costs to open an image and to read it: bytes read from files, and memory of Python's."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vdifs.storage.host_file import HostFile

__all__ = ["counted_reads", "little_memory"]


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collect the lengths that are read from files."""
    lengths, read_at, read_each = list[int](), HostFile.read_at, HostFile.read_each

    def counting(self: HostFile, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read_at(self, offset, length)

    def counting_each(self: HostFile, offsets: list[int], length: int) -> list[bytes]:
        lengths.extend([length] * len(offsets))
        return read_each(self, offsets, length)

    with monkeypatch.context() as patch:
        patch.setattr(HostFile, "read_at", counting)
        patch.setattr(HostFile, "read_each", counting_each)
        yield lengths


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """See that what happens inside takes less than `most` bytes at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
