"""VHDX files, byte by byte after docs/formats.md, VHDX: whole ones, and with any rule broken. And how vdifs reads them.

0          | identifier, headers, region tables | log | metadata | BAT | blocks and sector bitmaps, in any order |
in MiB     0                                    1     2          3
"""

import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from tests.support.hand_made_chain import chain_of
from tests.support.hand_made_chain import contents as contents_of
from tests.support.units import KIB, MIB
from vdifs.chain.open_chain import Chain
from vdifs.formats.vhdx.crc32c import crc32c
from vdifs.formats.vhdx.format import VHDX

BAT_GUID = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_GUID = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
LOGICAL_SECTOR = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
NOBODY = UUID(int=0)
LOG_GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
LOG_AT, METADATA_AT, BAT_AT = MIB, 2 * MIB, 3 * MIB
PAGE = 4 * KIB
FIXED, HAS_PARENT = 1, 2
USER, VIRTUAL_DISK, REQUIRED = 1, 2, 4


@dataclass
class Item:
    """An item of the metadata. at: its offset, None behind the one before."""

    guid: UUID
    data: bytes
    flags: int = REQUIRED
    at: int | None = None
    length: int | None = None


@dataclass
class Region:
    guid: UUID
    at: int
    length: int
    required: int = 1


@dataclass
class Head:
    """A header. version, log: as they are unless a rule is broken."""

    sequence: int
    data_guid: UUID
    log_guid: UUID = NOBODY
    log_version: int = 0
    version: int = 1
    log_length: int = MIB
    log_at: int = LOG_AT
    file_guid: UUID = NOBODY
    signature: bytes = b"head"

    def packed(self) -> bytes:
        guids = [each.bytes_le for each in (self.file_guid, self.data_guid, self.log_guid)]
        rest = struct.pack("<HHIQ", self.log_version, self.version, self.log_length, self.log_at)
        head = self.signature + bytes(4) + struct.pack("<Q", self.sequence) + b"".join(guids) + rest
        return summed(head.ljust(PAGE, b"\0"))


def summed(data: bytes) -> bytes:
    """Return a structure with its checksum."""
    data = data[:4] + bytes(4) + data[8:]
    return data[:4] + struct.pack("<I", crc32c(data)) + data[8:]


def locator(values: Mapping[str, str] | Sequence[tuple[str, str]], kind: UUID = LOCATOR_TYPE) -> bytes:
    pairs = list(values.items() if isinstance(values, Mapping) else values)
    head, tail = kind.bytes_le + struct.pack("<HH", 0, len(pairs)), b""
    start = 20 + 12 * len(pairs)
    for key, value in pairs:
        k, v = key.encode("utf-16-le"), value.encode("utf-16-le")
        head += struct.pack("<IIHH", start + len(tail), start + len(tail) + len(k), len(k), len(v))
        tail += k + v
    return head + tail


def linked(guid: UUID, name: str) -> dict[str, str]:
    """Return what a child says of a parent beside it."""
    return {"parent_linkage": f"{{{guid}}}", "relative_path": f".\\{name}"}


class Draft:
    """A VHDX in the making; what it is made of may be changed before `save`.

    disk: what the file itself holds, and zeros. states: of blocks; 0 unless told. bits: of partially present blocks.
    """

    def __init__(
        self,
        size: int = 8 * MIB,
        block: int = MIB,
        sector: int = 512,
        parent: Mapping[str, str] | None = None,
        *,
        flags: int = 0,
        number: int = 1,
    ) -> None:
        self.size, self.block, self.sector, self.is_child = size, block, sector, parent is not None
        self.guid = UUID(int=number << 64 | 0xDA7A)
        self.heads = [Head(sequence, self.guid, file_guid=UUID(int=number << 64 | 0xF11E)) for sequence in (4, 5)]
        self.blocks = -(-size // block)
        self.ratio = (sector << 23) // block
        self.chunks = -(-self.blocks // self.ratio)
        alone = self.blocks + (self.blocks - 1) // self.ratio
        self.entries = self.chunks * (self.ratio + 1) if self.is_child else alone
        bat = -(-self.entries * 8 // MIB) * MIB
        self.first_block = (BAT_AT + bat) // MIB
        self.regions = [Region(BAT_GUID, BAT_AT, bat), Region(METADATA_GUID, METADATA_AT, MIB)]
        self.items = [
            Item(FILE_PARAMETERS, struct.pack("<II", block, flags | (HAS_PARENT if self.is_child else 0))),
            Item(DISK_SIZE, struct.pack("<Q", size), REQUIRED | VIRTUAL_DISK),
            Item(LOGICAL_SECTOR, struct.pack("<I", sector), REQUIRED | VIRTUAL_DISK),
            Item(PHYSICAL_SECTOR, struct.pack("<I", 512 if size % 4096 else 4096), REQUIRED | VIRTUAL_DISK),
            Item(DISK_ID, UUID(int=99).bytes_le, REQUIRED | VIRTUAL_DISK),
        ]
        if parent is not None:
            self.items.append(Item(LOCATOR, locator(parent)))
        self.contents: dict[int, bytearray] = {}
        self.states: dict[int, int] = {}
        self.bits: dict[int, int] = {}
        self.entry: dict[int, int] = {}
        """Entries of the BAT by index, in place of what would be there."""
        self.patches: list[tuple[int, bytes]] = []
        self.log: list[tuple[int, bytes]] = []
        self.metadata_head = b"metadata"
        self.region_tables: list[bytes | None] = [None, None]
        self.cut: int | None = None
        """Where the file ends, in place of its last block."""
        self.places: dict[int, int] = {}
        """Where blocks lie, in MiB, and by ~chunk bitmaps, once it is saved."""

    def item(self, guid: UUID) -> Item:
        return next(each for each in self.items if each.guid == guid)

    def write(self, offset: int, data: bytes) -> None:
        """Write whole sectors: into new blocks as partially present in a child."""
        at = offset
        while at < offset + len(data):
            block, within = divmod(at, self.block)
            length = min(self.block - within, offset + len(data) - at)
            state = self.states.get(block, 0)
            content = self.contents.setdefault(block, bytearray(self.block))
            content[within : within + length] = data[at - offset : at - offset + length]
            if state in (1, 2, 3) or not self.is_child:
                self.states[block] = 6
            elif state == 0:
                self.states[block], self.bits[block] = 7, 0
            if self.states[block] == 7:
                count, first = length // self.sector, within // self.sector
                self.bits[block] |= (1 << count) - 1 << first
                if self.bits[block] == (1 << self.block // self.sector) - 1:
                    self.states[block] = 6
            at += length

    def leave(self, block: int, state: int) -> None:
        """Have a block hold nothing, in one of the states 0 to 3."""
        self.states[block] = state
        self.contents.pop(block, None)
        self.bits.pop(block, None)

    def index(self, block: int) -> int:
        return block + block // self.ratio

    def bitmap_index(self, chunk: int) -> int:
        return (chunk + 1) * (self.ratio + 1) - 1

    def bat(self, rng: random.Random | None = None) -> dict[int, int]:
        """Return the entries that are not 0, after choosing where everything lies."""
        held = [block for block in sorted(self.states) if self.states[block] >= 6]
        chunks = sorted({block // self.ratio for block in held if self.states[block] == 7})
        things = [*held, *(~chunk for chunk in chunks)]
        if rng is not None:
            rng.shuffle(things)
        at = self.first_block
        for thing in things:
            self.places[thing] = at
            at += 1 if thing < 0 else self.block // MIB
        entries = {self.bitmap_index(chunk): self.places[~chunk] << 20 | 6 for chunk in chunks}
        for block, state in self.states.items():
            place = self.places.get(block, 0)
            if rng is not None and block not in self.places and rng.random() < 0.5:
                place = rng.randrange(1 << 30)  # which means nothing
            entries[self.index(block)] = place << 20 | state
        return entries | self.entry

    def save(self, path: Path, rng: random.Random | None = None) -> Path:
        """Write the file. rng: has blocks lie in any order, and fills with noise what no reader may look at."""
        entries = self.bat(rng)
        with path.open("wb") as file:
            file.truncate(self.first_block * MIB + sum(MIB if thing < 0 else self.block for thing in self.places))
            for at, data in self.pieces(entries, rng):
                file.seek(at)
                file.write(data)
            if self.cut is not None:
                file.truncate(self.cut)
        return path

    def pieces(self, entries: Mapping[int, int], rng: random.Random | None) -> Iterator[tuple[int, bytes]]:
        """Yield what the file holds where, later ones over the earlier."""
        yield 0, b"vhdxfile" + "tests".encode("utf-16-le")
        for number, head in enumerate(self.heads):
            yield (number + 1) * 64 * KIB, head.packed()
        for number, table in enumerate(self.region_tables):
            yield (192 + 64 * number) * KIB, self.region_table() if table is None else table
        for at, data in self.metadata():
            yield METADATA_AT + at, data
        for index, entry in entries.items():
            yield BAT_AT + 8 * index, struct.pack("<Q", entry)
        for thing, place in self.places.items():
            data = self.bitmap(~thing, rng) if thing < 0 else self.block_content(thing, rng)
            if any(data):  # else it is a hole
                yield place * MIB, data
        yield from self.logged()
        yield from self.patches

    def logged(self) -> Iterator[tuple[int, bytes]]:
        head = self.heads[1]
        for at, data in self.log:
            before = min(len(data), head.log_length - at)
            yield head.log_at + at, data[:before]
            yield head.log_at, data[before:]

    def bitmap(self, chunk: int, rng: random.Random | None) -> bytes:
        bitmap = bytearray(MIB)
        size = self.block // self.sector // 8
        for block in range(chunk * self.ratio, min((chunk + 1) * self.ratio, self.blocks)):
            at = block % self.ratio * size
            if self.states.get(block, 0) == 7:
                bitmap[at : at + size] = self.bits[block].to_bytes(size, "little")
            elif rng is not None:
                bitmap[at : at + size] = rng.randbytes(size)
        return bytes(bitmap)

    def block_content(self, block: int, rng: random.Random | None) -> bytes:
        content = bytearray(self.contents[block])
        if self.states[block] == 7 and rng is not None:
            for sector in range(self.block // self.sector):
                if not self.bits[block] >> sector & 1:
                    content[sector * self.sector] = 0xEE
        return bytes(content)

    def region_table(self) -> bytes:
        table = b"regi" + bytes(4) + struct.pack("<II", len(self.regions), 0)
        for each in self.regions:
            table += each.guid.bytes_le + struct.pack("<QII", each.at, each.length, each.required)
        return summed(table.ljust(64 * KIB, b"\0"))

    def metadata(self) -> Iterator[tuple[int, bytes]]:
        table, at = self.metadata_head + struct.pack("<HH20x", 0, len(self.items)), 64 * KIB
        for item in self.items:
            place, length = at if item.at is None else item.at, len(item.data) if item.length is None else item.length
            table += item.guid.bytes_le + struct.pack("<IIII", place, length, item.flags, 0)
            yield place, item.data
            at = max(at, place + len(item.data))
        yield 0, table

    def dirty(self, *entries: tuple[int, bytes], guid: UUID = LOG_GUID) -> None:
        """Have the file be unclean: entries, each at a place in the ring."""
        self.heads[1].log_guid = guid
        self.log = list(entries)


@dataclass(frozen=True)
class Zeros:
    length: int


@dataclass
class LogEntry:
    """An entry of the log. writes: offset in the file, and a page of 4 KiB or zeros."""

    sequence: int
    tail: int
    writes: Sequence[tuple[int, bytes | Zeros]]
    flushed: int = 0
    last: int = 0
    guid: UUID = LOG_GUID
    broken: Mapping[str, int] = field(default_factory=dict)
    """Values in place of the right ones: length, descriptors, sequence_of_data, sequence_of_descriptors, checksum."""

    def packed(self) -> bytes:
        descriptors, data = bytearray(), bytearray()
        sequence_of_data = self.broken.get("sequence_of_data", self.sequence)
        inner = self.broken.get("sequence_of_descriptors", self.sequence)
        for offset, what in self.writes:
            if isinstance(what, Zeros):
                descriptors += b"zero" + bytes(4) + struct.pack("<QQQ", what.length, offset, inner)
                continue
            descriptors += b"desc" + what[-4:] + what[:8] + struct.pack("<QQ", offset, inner)
            data += b"data" + struct.pack("<I", sequence_of_data >> 32) + what[8:-4]
            data += struct.pack("<I", sequence_of_data & 0xFFFF_FFFF)
        head_size = -(-(64 + len(descriptors)) // PAGE) * PAGE
        length = self.broken.get("length", head_size + len(data))
        count = self.broken.get("descriptors", len(self.writes))
        head = b"loge" + bytes(4) + struct.pack("<IIQII", length, self.tail, self.sequence, count, 0)
        head += self.guid.bytes_le + struct.pack("<QQ", self.flushed, self.last)
        whole = summed((head + bytes(descriptors)).ljust(head_size, b"\0") + bytes(data))
        if "checksum" in self.broken:
            return whole[:4] + struct.pack("<I", self.broken["checksum"]) + whole[8:]
        return whole


def opened(*paths: Path) -> AbstractContextManager[Chain]:
    """Open images as a chain, top first, whatever they say of one another."""
    return chain_of(VHDX, *paths)


def contents(*paths: Path, at_once: int | None = None) -> bytes:
    """Return the whole disk of a chain, top first."""
    with opened(*paths) as chain:
        return contents_of(chain if at_once is None else Chain(chain.members, at_once))
