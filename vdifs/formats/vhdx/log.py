"""The log of a VHDX (docs/formats.md, VHDX): which of its entries are to be applied, and in what order.

    the ring     |....|loge desc desc|data|data|loge zero|torn|......|loge ...|data|
                       sequence 7               8                     3: an older run
    a run        entries that are valid and lie one behind the other, each with the next sequence number
    the active   the run with the highest last number, of those in which the tail of the last entry is an entry's place

Every entry begins with `loge`, and none of its other sectors may; so valid entries do not overlap, and the whole log is
read and summed up once, however many sectors claim to begin an entry.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.vhdx.crc32c import START, appended, remainders
from vdifs.formats.vhdx.header import MIB, Header
from vdifs.pace import give_way
from vdifs.units import ceil_div

__all__ = ["LOG_SECTOR", "Descriptors", "Entry", "active_run", "descriptors_of"]

LOG_SECTOR = 4096
_HEAD = struct.Struct("<4sIIIQI4x16sQQ")
_DESCRIPTOR = np.dtype([("signature", "S4"), ("trail", "V4"), ("lead", "V8"), ("offset", "<u8"), ("sequence", "<u8")])
_MAX_DESCRIPTORS = 1 << 18
"""Of all entries that are applied, 8 MiB: a log of 64 MiB holds 16,384 pages at the most, and zeros in ranges."""
_REPAIR = "open it once in Hyper-V, or restore it from a copy"

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. index, sectors: where in the ring, and how long, in sectors. tail: a place in the ring, as index."""

    index: int
    sectors: int
    sequence: int
    tail: int
    descriptors: int
    flushed_size: int
    last_size: int

    @property
    def head_sectors(self) -> int:
        """How many sectors of it hold its header and the descriptors; data sectors follow."""
        return ceil_div(_HEAD.size + self.descriptors * _DESCRIPTOR.itemsize, LOG_SECTOR)


@dataclass(frozen=True, slots=True, eq=False)
class Descriptors:
    """Those of one entry. is_data: bool, else zeros. places: int64, host offset of each data sector, in their order."""

    rows: NDArray[np.void]
    is_data: NDArray[np.bool_]
    places: NDArray[np.int64]


@dataclass(slots=True)
class _Ring:
    """The log, looked at once. By sector: its remainder, whether it is data, and of which sequence number."""

    read: Read
    offset: int
    sectors: int
    guid: UUID
    remainder: NDArray[np.uint32] = field(init=False)
    is_data: NDArray[np.bool_] = field(init=False)
    sequence: NDArray[np.uint64] = field(init=False)
    heads: dict[int, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.remainder = np.empty(self.sectors, np.uint32)
        self.is_data = np.empty(self.sectors, np.bool_)
        self.sequence = np.empty(self.sectors, np.uint64)
        step = MIB // LOG_SECTOR
        for at in range(0, self.sectors, step):
            give_way(heavy=self.sectors > step)
            self._look_at(at, min(step, self.sectors - at))

    def _look_at(self, first: int, count: int) -> None:
        data = bytearray(self.read(self.offset + first * LOG_SECTOR, count * LOG_SECTOR))
        sectors = np.frombuffer(data, np.uint8).reshape(count, LOG_SECTOR)
        words = sectors.view("<u4")
        for row in np.flatnonzero(words[:, 0] == int.from_bytes(b"loge", "little")).tolist():
            self.heads[first + row] = bytes(sectors[row, : _HEAD.size])
            words[row, 1] = 0  # its own checksum counts as zeros
        rows = slice(first, first + count)
        self.is_data[rows] = words[:, 0] == int.from_bytes(b"data", "little")
        self.sequence[rows] = words[:, 1].astype(np.uint64) << np.uint64(32) | words[:, -1]
        self.remainder[rows] = remainders(sectors)

    def read_sectors(self, index: int, count: int) -> bytes:
        """Return sectors of the ring, which goes on with its first behind its last."""
        before = min(count, self.sectors - index)
        found = self.read(self.offset + index * LOG_SECTOR, before * LOG_SECTOR)
        if before < count:
            found += self.read(self.offset, (count - before) * LOG_SECTOR)
        return found

    def indices(self, index: int, count: int) -> NDArray[np.int64]:
        """Return the indices of `count` sectors from `index` on."""
        return (np.arange(count) + index) % self.sectors

    def entries(self) -> Iterator[Entry]:
        """Yield the valid entries."""
        starts = sorted(self.heads)
        for at, index in enumerate(starts):
            following = starts[at + 1] if at + 1 < len(starts) else starts[0] + self.sectors
            entry = self._parse(index, following - index)
            if entry is not None and self._is_valid(entry):
                yield entry

    def _parse(self, index: int, most_sectors: int) -> Entry | None:
        _, _, length, tail, sequence, count, guid, flushed, last = _HEAD.unpack(self.heads[index])
        fits = 0 < length <= most_sectors * LOG_SECTOR and tail < self.sectors * LOG_SECTOR
        if not fits or length % LOG_SECTOR or tail % LOG_SECTOR or not sequence or UUID(bytes_le=guid) != self.guid:
            return None
        if count * _DESCRIPTOR.itemsize > length - _HEAD.size:
            return None
        return Entry(index, length // LOG_SECTOR, sequence, tail // LOG_SECTOR, count, flushed, last)

    def _is_valid(self, entry: Entry) -> bool:
        """Tell whether the checksum, the descriptors and the data sectors of an entry are right."""
        state = START
        for each in self.remainder[self.indices(entry.index, entry.sectors)].tolist():
            state = appended(state, each)
        if state ^ START != int.from_bytes(self.heads[entry.index][4:8], "little"):
            return False
        rows = _rows(self.read_sectors(entry.index, entry.head_sectors), entry)
        data = self.indices(entry.index + entry.head_sectors, entry.sectors - entry.head_sectors)
        is_data, is_zero = rows["signature"] == b"desc", rows["signature"] == b"zero"
        lengths = rows["lead"].view("<u8")
        return bool(
            (is_data | is_zero).all()
            and np.count_nonzero(is_data) == len(data)
            and (rows["sequence"] == entry.sequence).all()
            and not (rows["offset"] % LOG_SECTOR).any()
            and not (lengths[is_zero] % LOG_SECTOR).any()
            and self.is_data[data].all()
            and (self.sequence[data] == entry.sequence).all()
        )


def active_run(read: Read, header: Header) -> tuple[Entry, ...]:
    """Return the entries to apply, in order, at least one. read: returns bytes of the file, where the whole log lies.

    Raises FormatError if there is no run that counts, or if two do that end with the same sequence number.
    """
    ring = _Ring(read, header.log_offset, header.log_length // LOG_SECTOR, header.log_guid)
    valid = {entry.index: entry for entry in ring.entries()}
    following = dict[int, Entry]()
    for entry in valid.values():
        after = valid.get((entry.index + entry.sectors) % ring.sectors)
        if after is not None and after.sequence == entry.sequence + 1:
            following[entry.index] = after
    firsts = set(valid) - {entry.index for entry in following.values()}
    found: list[tuple[Entry, ...]] = []
    for index in firsts:
        run = [valid[index]]
        while (after := following.get(run[-1].index)) is not None:
            run.append(after)
        places = [entry.index for entry in run]
        if run[-1].tail in places:
            found.append(tuple(run[places.index(run[-1].tail) :]))
    if not found:
        raise FormatError("its log is to be replayed, and has no entries that can be", remedy=_REPAIR)
    highest = max(run[-1].sequence for run in found)
    runs = [run for run in found if run[-1].sequence == highest]
    if len(runs) > 1:
        what = f"two runs of entries in its log end with the sequence number {highest}"
        raise FormatError(what, remedy=_REPAIR)
    if sum(entry.descriptors for entry in runs[0]) > _MAX_DESCRIPTORS:
        what = f"its log to replay has more than {_MAX_DESCRIPTORS} descriptors"
        raise UnsupportedError(what, remedy="open it once in Hyper-V")
    return runs[0]


def descriptors_of(read: Read, header: Header, entry: Entry) -> Descriptors:
    """Return the descriptors of an entry of the active run."""
    sectors = header.log_length // LOG_SECTOR
    places = header.log_offset + (np.arange(entry.sectors, dtype=np.int64) + entry.index) % sectors * LOG_SECTOR
    head = b"".join(read(place, LOG_SECTOR) for place in places[: entry.head_sectors].tolist())
    rows = _rows(head, entry)
    return Descriptors(rows, rows["signature"] == b"desc", places[entry.head_sectors :])


def _rows(head: bytes, entry: Entry) -> NDArray[np.void]:
    return np.frombuffer(head, _DESCRIPTOR, entry.descriptors, offset=_HEAD.size)
