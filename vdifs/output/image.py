"""A synthetic file, open: its size, its bytes from any offset, and what else is known about it."""

import hashlib
import io
import posixpath
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np

from vdifs.chain.members import damage_only_if_unchanged
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.errors import InUseError, SourceChangedError, UsageError, VdifsError
from vdifs.formats.qcow2.geometry import MAX_CLUSTER_BITS, MIN_CLUSTER_BITS, Geometry
from vdifs.output.allocation import Allocation
from vdifs.output.arguments import buffer_of, number
from vdifs.output.bodies import Body, Qcow2Body, RawBody, Region
from vdifs.output.layout import Backing, Layout, check_geometry, fit
from vdifs.output.piece_reader import Gatherer

__all__ = ["Image", "View", "open_image", "safe_backing_name"]

View = Literal["qcow2", "raw"]
Base = str | Callable[[Chain], int]
"""A PATH, or what finds the index of the base in the chain."""
DEFAULT_CLUSTER_BITS = 16
_LOAD_TRIES = 3
_ETAG_VERSION = 2
MIN_EXTENDED_BITS = 14


class Image:
    """A synthetic file over an open chain. A context manager; safe to use from several threads."""

    def __init__(
        self, chain: Chain, body: Body, allocated: int, size_if_full: int, etag: str, tables: Mapping[Hashable, int]
    ) -> None:
        """Take over `chain`."""
        self.chain = chain
        self._body = body
        self.size = body.size
        """Exact length in bytes."""
        self.virtual_size = chain.virtual_size
        """Length of the guest disk in bytes."""
        self.allocated = allocated
        """Bytes of guest data held, in whole clusters."""
        self.size_if_full = size_if_full
        """Length in bytes of the same file if every cluster of the disk held data."""
        self.depth = len(chain.members)
        """Images in the chain."""
        self.tables = tables
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
            raise UsageError(f"cannot read {length} bytes at offset {offset}: neither may be negative")
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
            raise UsageError(f"cannot read at offset {offset}: it may not be negative")
        count = max(0, min(len(view), self.size - offset))
        self._fill(offset, view[:count], True)
        return count

    def regions(self) -> Iterator[Region]:
        """Yield all that may hold something else than zeros, in order. Reads tables, no data."""
        self._check_open()
        return self._body.regions()

    def stream(self, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """Yield the whole file in order, `chunk_size` bytes at a time."""
        self._check_open()
        if (size := number("chunk_size", chunk_size)) < 1:
            raise UsageError(f"cannot stream {size} bytes at a time: give a positive number")
        return (self.read_at(offset, size) for offset in range(0, self.size, size))

    def file(self) -> io.BufferedReader:
        """Return a seekable binary file object; closing it leaves the image open."""
        self._check_open()
        return io.BufferedReader(_ImageFile(self), 1 << 20)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.chain.members[0].file.name}: the image was closed: open it again")

    def _fill(self, offset: int, view: memoryview, wait: bool) -> None:
        if not view:
            return
        try:
            self._body.readinto(offset, view, wait=wait)
        except (VdifsError, OSError):
            self._check_open()  # another thread has closed it meanwhile, whatever came of that
            raise


def _too_long(length: int) -> UsageError:
    return UsageError(f"cannot read {length} bytes at once, for which there is no memory: ask for less at a time")


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


@dataclass(frozen=True, slots=True)
class _Wish:
    """What open_image was asked for."""

    base: Base | None
    view: View
    cluster_size: int | None
    backing_name: str | None
    snapshot: str | None
    extended_l2: bool
    stated: str | None


def open_image(
    policy: Policy,
    path: str,
    *,
    base: Base | None = None,
    view: View = "qcow2",
    cluster_size: int | None = None,
    backing_name: str | None = None,
    snapshot: str | None = None,
    extended_l2: bool = False,
    stated: str | None = None,
) -> Image:
    """Open the image PATH as a synthetic file.

    base: an ancestor, or the image itself, for a delta; None for all guest data. view: "raw" for the
    guest contents. cluster_size: of the output, 512 to 2 MiB, by default the image's own. backing_name: what a delta
    records, by default the base's file name. snapshot: the label, name or ID of an
    internal snapshot, whose PATH is then `path@label`. extended_l2: write subclusters, so that a delta holds
    no more than what changed, for clusters of 16 KiB or more. stated: the format of PATH where it is known, such as
    that of a raw backing file, whatever its name. Blocks; everything is resolved afterwards.

    Raises UsageError for wrong arguments, InUseError for sources that do not stop changing, and what Chain.open does.
    """
    if view == "raw" and base is not None:
        raise UsageError("a raw view has no base: leave out the base, or ask for a qcow2")
    if cluster_size is not None and cluster_size not in [1 << b for b in range(MIN_CLUSTER_BITS, MAX_CLUSTER_BITS + 1)]:
        raise UsageError(f"cluster size {cluster_size}: give a power of two from 512 to 2097152")
    wish = _Wish(base, view, cluster_size, backing_name, snapshot, extended_l2, stated)
    for _ in range(_LOAD_TRIES - 1):
        with suppress(SourceChangedError):
            return _open_once(policy, path, wish)
    try:
        return _open_once(policy, path, wish)
    except SourceChangedError as error:
        raise InUseError(f"{error}; it kept changing while it was opened: wait until its writer is done") from error


def _open_once(policy: Policy, path: str, wish: _Wish) -> Image:
    with ExitStack() as stack:
        chain = stack.enter_context(Chain.open(policy, path, wish.snapshot, stated=wish.stated))
        index = None if wish.base is None else _index_of(chain, wish.base)
        bits = _cluster_bits(chain, wish.cluster_size)
        if wish.extended_l2 and bits < MIN_EXTENDED_BITS:
            raise UsageError(
                f"extended L2 entries need clusters of 16384 bytes or more, not {1 << bits}: ask for larger ones"
            )
        geometry = Geometry(bits, chain.virtual_size, wish.extended_l2)
        check_geometry(geometry)
        allocation = Allocation(chain, index, geometry)
        with damage_only_if_unchanged(*chain.files):
            summary = allocation.summarize()
        gatherer = Gatherer(chain)
        backing = None if index is None else _backing(chain, index, wish.backing_name)
        body: Body
        if wish.view == "raw":
            body, most = RawBody(summary, allocation, gatherer), geometry.virtual_size
        else:
            layout = Layout.plan(geometry, summary.l2_tables.count, summary.data_clusters, backing)
            body = Qcow2Body(layout, summary, allocation, gatherer)
            most = fit(geometry, geometry.l1_size, geometry.clusters).total << bits
        chain.check_unchanged()
        stack.pop_all()
    etag = _etag(chain, wish.view, index, (bits, wish.extended_l2), backing)
    tables = {id(summary): summary.nbytes, **{each.layer.identity: each.layer.nbytes for each in chain.members}}
    return Image(chain, body, summary.data_clusters << bits, most, etag, tables)


def _index_of(chain: Chain, base: Base) -> int:
    return chain.index_of(base) if isinstance(base, str) else base(chain)


def _cluster_bits(chain: Chain, cluster_size: int | None) -> int:
    if cluster_size is not None:
        return cluster_size.bit_length() - 1
    header = chain.members[0].header
    return DEFAULT_CLUSTER_BITS if header is None else header.cluster_bits


def _backing(chain: Chain, index: int, name: str | None) -> Backing:
    member = chain.members[index]
    return Backing(safe_backing_name(posixpath.basename(member.path)) if name is None else name, member.format)


def safe_backing_name(name: str) -> str:
    """Return `name` so that QEMU takes it for a file: one with a colon before its first slash gets `./` in front."""
    return "./" + name if ":" in name.split("/", 1)[0] else name


def _etag(chain: Chain, view: View, base: int | None, clusters: tuple[int, bool], backing: Backing | None) -> str:
    snapshot = chain.members[0].snapshot
    parts = (
        _ETAG_VERSION,
        view,
        snapshot,
        base,
        clusters,
        backing and (backing.name, backing.format),
        *(each.anywhere for each in chain.fingerprints),
    )
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
