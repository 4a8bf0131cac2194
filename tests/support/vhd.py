"""VHDs put together byte by byte, sound or not: docs/formats.md, VHD. Knows nothing of how vdifs reads them.

image = Vhd(size, block_size)       what the file holds: blocks with the sectors that are set in them
image.write(path)                   the file; changes of the footer and the header get their checksums
"""

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from uuid import UUID

SECTOR = 512
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
ABSENT = 0xFFFFFFFF
NO_UUID, ONE = UUID(int=0), UUID(int=1)
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sBB")
_HEADER = struct.Struct(">8sQQIIII16sII512s")
FOOTER_FIELDS = (
    "cookie features version header_offset time_stamp creator creator_version creator_os original_size current_size"
    " cylinders heads sectors disk_type checksum uuid saved_state hidden"
).split()
HEADER_FIELDS = (
    "cookie next_offset bat_offset version bat_entries block_size checksum parent_uuid parent_time reserved name"
).split()


def checksum(data: bytes, at: int) -> int:
    return ~sum(byte for index, byte in enumerate(data) if not at <= index < at + 4) & 0xFFFFFFFF


def footer(**fields: object) -> bytes:
    """Return a footer with these fields; its checksum is right unless it is given."""
    values = {
        "cookie": b"conectix", "features": 2, "version": 0x10000, "header_offset": 512, "time_stamp": 0x2A000000,
        "creator": b"win ", "creator_version": 0xA0000, "creator_os": b"Wi2k", "original_size": 0, "current_size": 0,
        "cylinders": 1, "heads": 1, "sectors": 1, "disk_type": DYNAMIC, "checksum": 0, "uuid": UUID(int=1).bytes,
        "saved_state": 0, "hidden": 0,
    } | fields  # fmt: skip
    assert list(values) == FOOTER_FIELDS
    data = _FOOTER.pack(*values.values()).ljust(SECTOR, b"\0")
    return data if "checksum" in fields else signed(data, 64)


def header(locators: list[tuple[bytes, int, int]], **fields: object) -> bytes:
    """Return a header; locators: code, length and offset of each."""
    values = {
        "cookie": b"cxsparse", "next_offset": (1 << 64) - 1, "bat_offset": 1536, "version": 0x10000, "bat_entries": 0,
        "block_size": 2 << 20, "checksum": 0, "parent_uuid": bytes(16), "parent_time": 0, "reserved": 0, "name": b"",
    } | fields  # fmt: skip
    assert list(values) == HEADER_FIELDS
    data = _HEADER.pack(*values.values())
    for code, length, offset in locators:
        data += struct.pack(">4sIIIQ", code, SECTOR, length, 0, offset)
    data = data.ljust(1024, b"\0")
    return data if "checksum" in fields else signed(data, 36)


def signed(data: bytes, at: int) -> bytes:
    """Return a structure with the right checksum at `at`."""
    return data[:at] + checksum(data, at).to_bytes(4, "big") + data[at + 4 :]


def fixed(disk: bytes, size: int | None = None, **fields: object) -> bytes:
    """Return a fixed image of `disk`."""
    size = len(disk) if size is None else size
    sizes = {"original_size": size, "current_size": size, "header_offset": (1 << 64) - 1, "disk_type": FIXED}
    return disk + footer(**(sizes | fields))


@dataclass
class Vhd:
    """A dynamic image, or with a parent a differencing one.

    blocks: for the number of each block its sectors, by their number in it. locators: code and bytes of each.
    footer_fields, header_fields: what differs from what is right. bat: entries that differ. batmap: what is behind the
    table. align: the data of each block begin at a multiple of that. parts: which of the footers are written.
    """

    size: int
    block_size: int = 2 << 20
    parent: UUID | None = None
    uuid: UUID = ONE
    name: str = ""
    locators: list[tuple[bytes, bytes]] = field(default_factory=list)
    blocks: dict[int, dict[int, bytes]] = field(default_factory=dict)
    footer_fields: dict[str, object] = field(default_factory=dict)
    header_fields: dict[str, object] = field(default_factory=dict)
    bat: dict[int, int] = field(default_factory=dict)
    batmap: bytes = b""
    align: int = SECTOR
    order: list[int] | None = None
    copy: bool = True
    end: bool = True
    footer_length: int = SECTOR
    blocks_more: int = 0

    @property
    def sectors_per_block(self) -> int:
        return self.block_size // SECTOR

    @property
    def bitmap_space(self) -> int:
        return -(-self.sectors_per_block // 8 // SECTOR) * SECTOR

    @property
    def entries(self) -> int:
        return -(-self.size // self.block_size) + self.blocks_more

    def put(self, offset: int, data: bytes) -> None:
        """Have the disk hold `data`, whole sectors."""
        for at in range(0, len(data), SECTOR):
            block, sector = divmod((offset + at) // SECTOR, self.sectors_per_block)
            self.blocks.setdefault(block, {})[sector] = data[at : at + SECTOR]

    def write(self, path: Path) -> Path:
        foot, places, end = self.footer(), self.places(), self.first_block()
        with path.open("wb") as file:
            if self.copy:
                file.write(foot)
            file.seek(512)
            file.write(self.header())
            file.write(self.table(places))
            file.write(self.batmap)
            file.seek(self._behind_table())
            for _, data in self.locators:
                file.write(data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0"))
            file.flush()
            for number, sectors in self.blocks.items():
                self._write_block(file.fileno(), places[number], sectors)
            if places:
                end = max(places.values()) + self.bitmap_space + self.block_size
            file.truncate(end)
            if self.end:
                file.seek(end)
                file.write(foot[: self.footer_length])
        return path

    def footer(self) -> bytes:
        kind = DYNAMIC if self.parent is None else DIFFERENCING
        sizes = {"original_size": self.size, "current_size": self.size, "disk_type": kind, "uuid": self.uuid.bytes}
        return footer(**(sizes | self.footer_fields))

    def header(self) -> bytes:
        at, locators = self._behind_table(), list[tuple[bytes, int, int]]()
        for code, data in self.locators:
            locators.append((code, len(data), at))
            at += -(-len(data) // SECTOR) * SECTOR
        fields: dict[str, object] = {"bat_entries": self.entries, "block_size": self.block_size}
        fields["parent_uuid"] = (self.parent or NO_UUID).bytes
        fields["name"] = self.name.encode("utf-16-be")
        return header(locators, **(fields | self.header_fields))

    def table(self, places: Mapping[int, int]) -> bytes:
        entries = {number: place // SECTOR for number, place in places.items()} | self.bat
        words = [entries.get(number, ABSENT) for number in range(self.entries)]
        return struct.pack(f">{len(words)}I", *words).ljust(-(-len(words) * 4 // SECTOR) * SECTOR, b"\xff")

    def places(self) -> dict[int, int]:
        """Return where the bitmap of each block is."""
        found, at = {}, self.first_block()
        for number in self.order or list(self.blocks):
            at += -(at + self.bitmap_space) % self.align
            found[number] = at
            at += self.bitmap_space + self.block_size
        return found

    def first_block(self) -> int:
        return self._behind_table() + sum(-(-len(data) // SECTOR) * SECTOR for _, data in self.locators)

    def _behind_table(self) -> int:
        return 1536 + -(-self.entries * 4 // SECTOR) * SECTOR + -(-len(self.batmap) // SECTOR) * SECTOR

    def _write_block(self, fd: int, place: int, sectors: Mapping[int, bytes]) -> None:
        bitmap = bytearray(self.bitmap_space)
        for number in sectors:
            bitmap[number // 8] |= 0x80 >> number % 8
        os.pwrite(fd, bitmap, place)
        for number, data in sectors.items():
            os.pwrite(fd, data, place + self.bitmap_space + number * SECTOR)


def batmap_header(*, encrypted: int = 0) -> bytes:
    """Return what XenServer writes behind the table."""
    return struct.pack(">8sQIIIBB", b"tdbatmap", 4096, 0, 0x10002, 0, 0, encrypted).ljust(SECTOR, b"\0")


def footer_of(image: bytes) -> bytes:
    """Return the footer that counts: at the end, of 512 bytes or 511, or else at the start."""
    for foot in (image[-SECTOR:], image[-511:] + b"\0" if len(image) % SECTOR == 511 else b""):
        if foot.startswith((b"conectix", b"v_poison")):
            return foot
    return image[:SECTOR]


def virtual_size(image: bytes, *, below_child: bool = False) -> int:
    """Return how large the disk is: docs/formats.md, VHD, "Size"."""
    foot = footer_of(image)
    cylinders, heads, sectors = struct.unpack_from(">HBB", foot, 56)
    by_geometry = foot[28:32] in (b"vpc ", b"vs  ", b"qemu") and (cylinders, heads, sectors) != (65535, 16, 255)
    if by_geometry and not below_child:
        return int(cylinders * heads * sectors * SECTOR)
    return int.from_bytes(foot[48:56], "big") // SECTOR * SECTOR


def plain_read(images: Sequence[bytes], start: int, end: int) -> bytes:
    """Read sectors of the disk of a chain, top first, as simply as can be; zeros where nothing is in any image.

    Raises ValueError for a block that is not whole in the file, or lies over another or over what tells of them.
    """
    if not images:
        return bytes(end - start)
    image, *below = images
    foot = footer_of(image)
    kind, at = int.from_bytes(foot[60:64], "big"), int.from_bytes(foot[16:24], "big")
    if kind == FIXED:
        return image[start:end]
    table, block = int.from_bytes(image[at + 16 : at + 24], "big"), int.from_bytes(image[at + 32 : at + 36], "big")
    bitmap_space = -(-block // 4096 // SECTOR) * SECTOR
    entries = image[table : table + 4 * -(-virtual_size(image) // block)]
    used = [entry * SECTOR for (entry,) in struct.iter_unpack(">I", entries) if entry != ABSENT]
    places = [(0, SECTOR), (at, at + 1024), (table, table + int.from_bytes(image[at + 28 : at + 32], "big") * 4)]
    places = sorted(places + [(place, place + bitmap_space + block) for place in used])
    if any(stop > following for (_, stop), (following, _) in pairwise(places)) or places[-1][1] > len(image):
        raise ValueError("a block over something else, or beyond the end")
    found = bytearray(_of_parent(image[at + 40 : at + 56], below, start, end) if kind == DIFFERENCING else end - start)
    for offset in range(start, end, SECTOR):
        place = table + offset // block * 4
        place = int.from_bytes(image[place : place + 4], "big")
        sector = offset % block // SECTOR
        if place != ABSENT and image[place * SECTOR + sector // 8] & 0x80 >> sector % 8:
            data = place * SECTOR + bitmap_space + offset % block
            found[offset - start : offset - start + SECTOR] = image[data : data + SECTOR]
    return bytes(found)


def _of_parent(uuid: bytes, below: Sequence[bytes], start: int, end: int) -> bytes:
    if not any(uuid):  # a raw image
        return b"".join(below[:1])[start:end].ljust(end - start, b"\0")
    stop = max(start, min(end, virtual_size(below[0], below_child=True))) if below else start
    return plain_read(below, start, stop).ljust(end - start, b"\0")


def offsets(layout: str) -> list[tuple[int, int]]:
    """Return where each field of a structure is, and how long it is."""
    found, at = list[tuple[int, int]](), 0
    for field_layout in re.findall(r"\d*[a-zA-Z]", layout):
        size = struct.calcsize(f">{field_layout}")
        found.append((at, size))
        at += size
    return found
