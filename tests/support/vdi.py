"""VDIs put together byte by byte, sound or not: docs/formats.md, VDI. Knows nothing of how vdifs reads them.

image = Vdi(size, block_size)       what the file holds: whole blocks, and which are zero
image.write(path)                   the file
"""

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

SECTOR, MIB = 512, 1 << 20
DYNAMIC, STATIC, DIFFERENCING = 1, 2, 4
FREE, ZERO = 0xFFFFFFFF, 0xFFFFFFFE
HEADER_END = 0x1D8
_LAYOUT = "64s I I I I I 256s I I I I I I I Q I I I I 16s 16s 16s 16s I I I I".split()
_HEADER = struct.Struct("<" + "".join(_LAYOUT))
NO_UUID = UUID(int=0)
FIELDS = (
    "text signature version header_size image_type flags comment map_offset data_offset cylinders heads sectors"
    " sector_size unused disk_size block_size block_extra blocks allocated_blocks uuid modification_uuid parent_uuid"
    " parent_modification_uuid logical_cylinders logical_heads logical_sectors logical_sector_size"
).split()
_EXTRA = b"\xee"


@dataclass(frozen=True)
class Name:
    """What tells an image: its UUID and that of its modification, each as the bytes in the header are."""

    uuid: UUID
    modification: UUID = NO_UUID


def name(number: int) -> Name:
    """Return one that no other number has."""
    return Name(UUID(int=number << 64 | number), UUID(int=number << 96 | number))


NO_NAME = Name(NO_UUID)
ONE = name(1)


def header(**fields: object) -> bytes:
    """Return a header with these fields."""
    values = {
        "text": b"<<< a disk of the tests >>>\n", "signature": 0xBEDA107F, "version": 0x10001, "header_size": 0x190,
        "image_type": DYNAMIC, "flags": 0, "comment": b"", "map_offset": SECTOR, "data_offset": MIB, "cylinders": 0,
        "heads": 0, "sectors": 0, "sector_size": SECTOR, "unused": 0, "disk_size": 0, "block_size": MIB,
        "block_extra": 0, "blocks": 0, "allocated_blocks": 0, "uuid": bytes(16), "modification_uuid": bytes(16),
        "parent_uuid": bytes(16), "parent_modification_uuid": bytes(16), "logical_cylinders": 0, "logical_heads": 0,
        "logical_sectors": 0, "logical_sector_size": SECTOR,
    } | fields  # fmt: skip
    assert list(values) == FIELDS
    return _HEADER.pack(*values.values())


@dataclass
class Vdi:
    """A dynamic or static image, or with a parent a differencing one.

    blocks: for the number of each block in the file its bytes; none at all: a hole. zero: blocks that are zeros.
    extra: bytes in front of each block. order: the blocks as they lie in the file, None for a place that is not used;
    that of `blocks` unless given. entries: of the map, that differ from what is right. cut: how many bytes the file is
    shorter. fields: of the header, that differ. behind_map: bytes between the map and the data.
    """

    size: int
    block_size: int = MIB
    parent: Name | None = None
    name: Name = ONE
    blocks: dict[int, bytes] = field(default_factory=dict)
    zero: set[int] = field(default_factory=set)
    extra: int = 0
    order: list[int | None] | None = None
    entries: dict[int, int] = field(default_factory=dict)
    fields: dict[str, object] = field(default_factory=dict)
    static: bool = False
    cut: int = 0
    blocks_more: int = 0
    behind_map: int = 0

    @property
    def count(self) -> int:
        return -(-self.size // self.block_size) + self.blocks_more

    @property
    def map_offset(self) -> int:
        return SECTOR

    @property
    def data_offset(self) -> int:
        return self.map_offset + -(-self.count * 4 // SECTOR) * SECTOR + self.behind_map

    def put(self, offset: int, data: bytes, below: bytes = b"") -> None:
        """Have the disk hold `data`; the rest of each block that is not in the file yet is that of the disk `below`."""
        at, end = offset, offset + len(data)
        while at < end:
            number, within = divmod(at, self.block_size)
            length = min(self.block_size - within, end - at)
            start = number * self.block_size
            old = b"" if number in self.zero else below[start : start + self.block_size]
            block = bytearray(self.blocks.get(number, old).ljust(self.block_size, b"\0"))
            block[within : within + length] = data[at - offset : at - offset + length]
            self.blocks[number] = bytes(block)
            self.zero.discard(number)
            at += length

    def places(self) -> dict[int, int]:
        """Return which block of the file each block of the disk is."""
        order = list(self.blocks) if self.order is None else self.order
        return {number: place for place, number in enumerate(order) if number is not None}

    def host_of(self, number: int) -> int:
        """Return where the data of a block are."""
        return self.data_offset + self.places()[number] * (self.extra + self.block_size) + self.extra

    def write(self, path: Path) -> Path:
        places, space = self.places(), self.extra + self.block_size
        with path.open("wb") as file:
            file.write(self.header())
            file.seek(self.map_offset)
            file.write(self.table(places))
            end = self.data_offset + max([0, *(place + 1 for place in places.values())]) * space
            file.truncate(end - self.cut)
            for number, place in places.items():
                at = self.data_offset + place * space
                data = self.blocks[number]
                os.pwrite(file.fileno(), (_EXTRA * self.extra)[: end - self.cut - at], at)
                os.pwrite(file.fileno(), data[: max(0, end - self.cut - at - self.extra)], at + self.extra)
        return path

    def table(self, places: Mapping[int, int]) -> bytes:
        entries = dict.fromkeys(self.zero, ZERO) | dict(places) | self.entries
        return struct.pack(f"<{self.count}I", *(entries.get(number, FREE) for number in range(self.count)))

    def header(self) -> bytes:
        parent = self.parent or NO_NAME
        kind = STATIC if self.static else DYNAMIC if self.parent is None else DIFFERENCING
        fields: dict[str, object] = {
            "image_type": kind,
            "map_offset": self.map_offset,
            "data_offset": self.data_offset,
            "disk_size": self.size,
            "block_size": self.block_size,
            "block_extra": self.extra,
            "blocks": self.count,
            "allocated_blocks": len(self.places()),
            "uuid": self.name.uuid.bytes_le,
            "modification_uuid": self.name.modification.bytes_le,
            "parent_uuid": parent.uuid.bytes_le,
            "parent_modification_uuid": parent.modification.bytes_le,
        }
        return header(**(fields | self.fields))


def offsets() -> dict[str, tuple[int, int]]:
    """Return where each field of the header is, and how long it is."""
    found, at = dict[str, tuple[int, int]](), 0
    for field_name, layout in zip(FIELDS, _LAYOUT, strict=True):
        size = struct.calcsize(f"<{layout}")
        found[field_name] = at, size
        at += size
    return found


def virtual_size(image: bytes) -> int:
    """Return how large the disk is."""
    at, length = offsets()["disk_size"]
    return -(-int.from_bytes(image[at : at + length], "little") // SECTOR) * SECTOR


def plain_read(images: Sequence[bytes], start: int, end: int) -> bytes:
    """Read a part of the disk of a chain, top first, as simply as can be; zeros where nothing is in any image.

    Raises ValueError for a block that is not whole in the file, or in it for two.
    """
    if not images:
        return bytes(end - start)
    image, *below = images
    number = {each: int.from_bytes(image[at : at + length], "little") for each, (at, length) in offsets().items()}
    block, space = number["block_size"], number["block_size"] + number["block_extra"]
    found, at, size = bytearray(), start, virtual_size(image)
    map_end = number["map_offset"] + 4 * -(-size // block)
    used = [entry for (entry,) in struct.iter_unpack("<I", image[number["map_offset"] : map_end]) if entry < ZERO]
    if len({*used}) < len(used):
        raise ValueError("a block twice")
    while at < min(end, size):
        stop = min(end, size, (at // block + 1) * block)
        entry = number["map_offset"] + 4 * (at // block)
        entry = int.from_bytes(image[entry : entry + 4], "little")
        part = b""
        if entry < ZERO:
            host = number["data_offset"] + entry * space + number["block_extra"] + at % block
            part = image[host : host + stop - at]
            if len(part) < stop - at:
                raise ValueError("a block beyond the end")
        elif entry == FREE and number["image_type"] == DIFFERENCING:
            part = plain_read(below, at, stop)
        found += part.ljust(stop - at, b"\0")
        at = stop
    return bytes(found.ljust(end - start, b"\0"))
