"""A synthetic file, open: its size, its bytes from any offset, and what else is known about it."""

import errno
import io
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from vdifs.chain.members import damage_only_if_unchanged
from vdifs.chain.open_chain import Chain
from vdifs.errors import UsageError, VdifsError, WouldBlock
from vdifs.output.arguments import buffer_of, number
from vdifs.output.protocol import Output, Region

__all__ = ["Image"]


class Image:
    """A synthetic file over an open chain. A context manager; safe to use from several threads."""

    def __init__(self, chain: Chain, output: Output, etag: str) -> None:
        """Takes ownership of `chain`, of which `output` was planned."""
        self.chain = chain
        self._output = output
        self.size = output.size
        """Exact length in bytes."""
        self.virtual_size = chain.virtual_size
        """Length of the guest disk in bytes."""
        self.allocated = output.allocated
        """Bytes of guest data held, in whole clusters."""
        self.packed = output.packed
        """Bytes of the file that packed clusters take, in whole sectors of 512."""
        self.stored = output.stored
        """Bytes of the file that are there, and no hole."""
        self.size_if_full = output.size_if_full
        """Length in bytes of the same file if every cluster of the disk held data."""
        self.depth = chain.depth
        """Images in the chain."""
        self.tables = {**output.tables, **{each.layer.identity: each.layer.nbytes for each in chain.members}}
        """Bytes of memory that follow the size of its tables, by what they are: images that share some have one key."""
        self.etag = etag
        """64 hexadecimal digits: a hash of what determines the bytes, the same wherever the sources are mounted."""
        self.mtime_ns = max(file.fingerprint.mtime_ns for file in chain.files)
        """The newest modification time in the chain, in nanoseconds."""
        self._closed = False

    def close(self) -> None:
        """Close the chain; more than once is harmless. Every other method then raises UsageError."""
        self._closed = True
        self.chain.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def check_unchanged(self) -> None:
        """Raise SourceChangedError if a file of the chain is another than when the image was opened."""
        self._check_open()
        try:
            self.chain.check_unchanged()
        except (VdifsError, OSError):
            self._check_open()
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` >= 0, fewer only at the end of the file.

        Raises SourceChangedError once a file of the chain has changed, FormatError for damaged data, StorageError.
        """
        view = self.view_at(offset, length)
        try:
            return view.tobytes()
        except MemoryError as error:
            raise _too_long(len(view)) from error

    def view_at(self, offset: int, length: int, *, wait: bool = True) -> memoryview:
        """Return what `read_at` would as a view of memory of its own: a copy less.

        wait=False: raises WouldBlock unless all of them are at hand without waiting for a disk.
        """
        self._check_open()
        if type(offset) is not int or type(length) is not int:
            offset, length = number("offset", offset), number("length", length)
        if offset < 0 or length < 0:
            raise UsageError(f"cannot read {length} bytes at offset {offset}", remedy="neither may be negative")
        count = max(0, min(length, self.size - offset))
        try:
            view = np.empty(count, np.uint8).data
        except MemoryError as error:
            raise _too_long(count) from error
        self._fill(offset, view, wait)
        return view

    def readinto_at(self, offset: int, buffer: "bytearray | memoryview") -> int:
        """Fill `buffer`, any writable one of bytes, from `offset` on; return how many bytes, fewer only at the end."""
        self._check_open()
        offset, view = number("offset", offset), buffer_of(buffer)
        if offset < 0:
            raise UsageError(f"cannot read at offset {offset}", remedy="it may not be negative")
        count = max(0, min(len(view), self.size - offset))
        self._fill(offset, view[:count], True)
        return count

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """Return the range around `offset` with what it is made of, None where that is computed or beyond the end.

        wait=False: None too where it is not resolved yet. Raises what reading does.
        """
        self._check_open()
        offset = number("offset", offset)
        try:
            return self._output.known(offset, wait=wait) if 0 <= offset < self.size else None
        except WouldBlock:
            return None

    def ahead(self, offset: int, most: int) -> Region | None:
        """Return a long range around `offset` for one who goes from data to data, of `most` pieces at most.

        None where the file has no holes, or `offset` is beyond its end. Raises what reading does.
        """
        self._check_open()
        offset, most = number("offset", offset), number("most", most)
        if most < 1:
            raise UsageError(f"most={most}", remedy="allow one piece or more")
        with damage_only_if_unchanged(*self.chain.files):
            return self._output.ahead(offset, most) if 0 <= offset < self.size else None

    def regions(self) -> Iterator[Region]:
        """Yield all that may hold something else than zeros, in order. Reads tables, no data."""
        self._check_open()
        return self._output.regions()

    def seek(self, offset: int, whence: int, *, wait: bool = True) -> int:
        """Return where data (os.SEEK_DATA) or a hole (os.SEEK_HOLE) begin next, from `offset` on, as lseek(2) does.

        The end of the file counts as a hole. Reads tables, no data; wait=False: raises WouldBlock unless what they say
        there is known. Raises UsageError, of errno ENXIO, where `offset` is not within the file or no data follow,
        SourceChangedError once a file of the chain has changed, FormatError for damaged tables, StorageError.
        """
        self._check_open()
        offset, whence = number("offset", offset), number("whence", whence)
        if whence not in {os.SEEK_DATA, os.SEEK_HOLE}:
            raise UsageError(f"whence={whence}", remedy="give os.SEEK_DATA or os.SEEK_HOLE")
        if not 0 <= offset < self.size:
            raise _nothing_there(f"offset {offset} is not within the {self.size} bytes of the file")
        try:
            with damage_only_if_unchanged(*self.chain.files):
                found = self._output.seek(offset, whence, wait=wait)
            self.chain.check_unchanged()
        except (VdifsError, OSError):
            self._check_open()
            raise
        if whence == os.SEEK_DATA and found == self.size:
            raise _nothing_there(f"no data follow from offset {offset} on")
        return found

    def stream(self, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """Yield the whole file in order, `chunk_size` bytes at a time."""
        self._check_open()
        if (size := number("chunk_size", chunk_size)) < 1:
            raise UsageError(f"cannot stream {size} bytes at a time", remedy="give a positive number")
        return (self.read_at(offset, size) for offset in range(0, self.size, size))

    def file(self) -> io.BufferedReader:
        """Return a seekable binary file object; closing it leaves the image open."""
        self._check_open()
        return io.BufferedReader(_ImageFile(self), 1 << 20)

    def _check_open(self) -> None:
        if self._closed:
            where = self.chain.members[0].file.name
            raise UsageError("the image was closed", where=where, remedy="open it again")

    def _fill(self, offset: int, view: memoryview, wait: bool) -> None:
        if not view:
            return
        try:
            self._output.readinto(offset, view, wait=wait)
        except (VdifsError, OSError):
            self._check_open()  # another thread has closed it meanwhile, whatever came of that
            raise


def _nothing_there(what: str) -> UsageError:
    return UsageError(what, remedy="the file ends there, or with zeros", errno=errno.ENXIO)


def _too_long(length: int) -> UsageError:
    what = f"cannot read {length} bytes at once, for which there is no memory"
    return UsageError(what, remedy="ask for less at a time")


class _ImageFile(io.RawIOBase):
    """The cursor that a file object needs, over an image that has none."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._image.size}
        if (origin := origins.get(whence)) is None:
            raise io.UnsupportedOperation(f"whence is {whence}: only 0, 1 and 2 are known")
        if origin + offset < 0:
            raise ValueError(f"negative seek position {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override] # any writable buffer
        count = self._image.readinto_at(self._at, buffer)
        self._at += count
        return count
