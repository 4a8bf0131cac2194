"""A reader of VHDXs as simple as can be, by docs/formats.md, VHDX: no bounds, no checks, a piece of a block at a time.

Of what vdifs reads it reads the same.
"""

import struct
from collections.abc import Sequence
from uuid import UUID

from tests.support.units import KIB, MIB
from tests.support.vhdx import BAT_GUID, DISK_SIZE, FILE_PARAMETERS, LOGICAL_SECTOR, METADATA_GUID, PAGE, summed

_SIGNED = (b"head", b"regi", b"loge")


class Plain:
    """What an image says, the entries of its log applied that lie at its start, one behind the other."""

    def __init__(self, image: bytes) -> None:
        self.image, self.over = image, dict[int, bytes]()
        heads = [image[at : at + 80] for at in (64 * KIB, 128 * KIB) if self.is_summed(at, PAGE)]
        head = max(heads, key=lambda data: int.from_bytes(data[8:16], "little"))
        if any(head[48:64]):
            self.replay(int.from_bytes(head[72:80], "little"), head[48:64])
        regions = next(at for at in (192 * KIB, 256 * KIB) if self.is_summed(at, 64 * KIB))
        ends = range(regions + 16, regions + 16 + 32 * self.number(regions + 8, 4), 32)
        place = {self.at(entry, 16): self.number(entry + 16, 8) for entry in ends}
        self.bat, base = place[BAT_GUID.bytes_le], place[METADATA_GUID.bytes_le]
        entries = range(base + 32, base + 32 + 32 * self.number(base + 10, 2), 32)
        self.items = {
            self.at(at, 16): base + self.number(at + 16, 4) for at in entries if not self.number(at + 24, 4) & 1
        }
        self.block, self.flags = self.item(FILE_PARAMETERS, 4), self.item(FILE_PARAMETERS, 8) >> 32
        self.size, self.sector = self.item(DISK_SIZE, 8), self.item(LOGICAL_SECTOR, 4)
        self.ratio = (self.sector << 23) // self.block

    def is_summed(self, at: int, length: int) -> bool:
        data = self.at(at, length)
        return data[:4] in _SIGNED and summed(data) == data

    def at(self, offset: int, length: int) -> bytes:
        """Return bytes of the file, with those that the log has over them, and zeros beyond its end."""
        found = bytearray()
        while len(found) < length:
            page, within = divmod(offset + len(found), PAGE)
            data = self.over.get(page) or self.image[page * PAGE : (page + 1) * PAGE].ljust(PAGE, b"\0")
            found += data[within : within + length - len(found)]
        return bytes(found)

    def number(self, offset: int, length: int) -> int:
        return int.from_bytes(self.at(offset, length), "little")

    def item(self, guid: UUID, length: int) -> int:
        return self.number(self.items[guid.bytes_le], length)

    def replay(self, log: int, guid: bytes) -> None:
        """Apply the entries from the start of the log on, none of them longer than two sectors."""
        entry, sequence = self.image[log : log + 2 * PAGE], None
        while entry[:4] == b"loge" and entry[32:48] == guid:
            length, _, number, count = struct.unpack_from("<IIQI", entry, 8)
            if summed(entry[:length]) != entry[:length] or (sequence is not None and number != sequence + 1):
                return
            self.apply(entry, count)
            log, sequence = log + length, number
            entry = self.image[log : log + 2 * PAGE]

    def apply(self, entry: bytes, count: int) -> None:
        for at in range(64, 64 + 32 * count, 32):
            kind, lead, page = entry[at : at + 4], entry[at + 8 : at + 16], entry[at + 16 : at + 24]
            first = int.from_bytes(page, "little") // PAGE
            if kind == b"desc":
                self.over[first] = lead + entry[PAGE + 8 : 2 * PAGE - 4] + entry[at + 4 : at + 8]
            else:
                pages = range(min(int.from_bytes(lead, "little") // PAGE, len(self.image) // PAGE))
                self.over |= {first + more: bytes(PAGE) for more in pages}

    def entry(self, index: int) -> tuple[int, int]:
        """Return the state and the place of an entry of the BAT."""
        entry = self.number(self.bat + 8 * index, 8)
        return entry & 7, (entry >> 20) * MIB

    def piece(self, at: int, end: int) -> tuple[int, int | None, bool]:
        """Return where a run that begins at `at` ends, where it is in the file, and whether it is below else."""
        number, within = divmod(at, self.block)
        state, place = self.entry(number + number // self.ratio)
        if state != 7:
            here = place + within if state == 6 else None
            return min(end, (number + 1) * self.block), here, state == 0 and bool(self.flags & 2)
        _, bitmap = self.entry((number // self.ratio + 1) * (self.ratio + 1) - 1)
        bit = at // self.sector % (1 << 23)
        is_here = self.number(bitmap + bit // 8, 1) >> bit % 8 & 1
        return min(end, (at // self.sector + 1) * self.sector), place + within if is_here else None, not is_here


def virtual_size(image: bytes) -> int:
    """Return how large the disk is."""
    return Plain(image).size


def plain_read(images: Sequence[bytes], start: int, end: int, below: bytes = b"") -> bytes:
    """Return a part of the disk of a chain, top first, over `below`; zeros where nothing is in any image."""
    return _read([Plain(each) for each in images], start, end, below)


def _read(plains: Sequence[Plain], start: int, end: int, below: bytes) -> bytes:
    if not plains:
        return below[start:end].ljust(end - start, b"\0")
    plain, found = plains[0], bytearray()
    at = start
    while at < min(end, plain.size):
        stop, place, is_below = plain.piece(at, min(end, plain.size))
        part = b"" if place is None else plain.image[place : place + stop - at]
        if is_below:
            part = _read(plains[1:], at, stop, below)
        found += part.ljust(stop - at, b"\0")
        at = stop
    return bytes(found.ljust(end - start, b"\0"))
