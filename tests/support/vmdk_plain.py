"""A reader of VMDKs as simple as can be, by docs/formats.md, VMDK: a grain at a time. Knows nothing of vdifs.

Of what vdifs reads it reads the same. It raises ValueError for images that are to be refused; where bytes must fail to
be read it returns `UNREADABLE`, which no disk holds.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from posixpath import normpath
from typing import Any, Protocol

from tests.support.vmdk import AT_END, NEWLINES, SECTOR, SESPARSE, SESPARSE_FIELDS

UNREADABLE = b"not to be read. "
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
_MIB = 1 << 20
_LINE = re.compile(rb'(RW|RDONLY|NOACCESS)\s+(\d+)\s+([^\s"]+)\s*(?:"([^"]*)"\s*(\d*).*)?', re.IGNORECASE | re.DOTALL)


def demand(condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(rule)


def unreadable(length: int) -> bytes:
    return (UNREADABLE * (length // len(UNREADABLE) + 1))[:length]


class Extent(Protocol):
    size: int
    """Bytes of disk."""

    def piece(self, at: int, end: int) -> tuple[int, bytes | None]:
        """Return where a piece that begins at `at` ends, and what it is: None if it is the parent's."""


class Plain:
    """A part of a raw file."""

    def __init__(self, image: bytes, start: int, size: int) -> None:
        demand(start + size <= len(image), "a flat extent beyond the end of its file")
        self.image, self.start, self.size = image, start, size

    def piece(self, at: int, end: int) -> tuple[int, bytes | None]:
        return end, self.image[self.start + at : self.start + end]


class Zeros:
    """Zeros, in no file."""

    def __init__(self, size: int) -> None:
        self.size = size

    def piece(self, at: int, end: int) -> tuple[int, bytes | None]:
        return end, bytes(end - at)


class Sparse:
    """A file with grain tables: what an entry means is for each kind to say."""

    def __init__(self, image: bytes, capacity: int, grain: int, entries: int, width: int, directory: int) -> None:
        """Take the numbers of its header: in sectors, but for `entries` in a table, and the bytes in each, `width`."""
        self.image, self.size, self.grain, self.entries, self.width = (
            image,
            capacity * SECTOR,
            grain * SECTOR,
            entries,
            width,
        )
        demand(capacity > 0, "no capacity")
        count = -(-self.size // (self.grain * entries))
        self.directory = self.numbers(directory * SECTOR, count)
        tables = [self.table(entry) for entry in self.directory if entry]
        used = [each for each in tables if any(self.numbers(each, entries))]
        demand(len({*used}) == len(used), "a table twice")

    def numbers(self, at: int, count: int) -> tuple[int, ...]:
        data = self.image[at : at + count * self.width]
        demand(len(data) == count * self.width and at > 0, "a table beyond the end, or over the header")
        return struct.unpack(f"<{count}{'I' if self.width == 4 else 'Q'}", data)

    def table(self, entry: int) -> int:
        """Return where a table is."""
        return entry * SECTOR

    def meaning(self, entry: int, at: int, length: int) -> bytes | None:
        """Return at least `length` bytes of the grain of an entry, which begins at `at`, or what else it means."""
        raise NotImplementedError

    def here(self, place: int, length: int) -> bytes:
        return self.image[place : place + length].ljust(length, b"\xff") if place + length <= len(self.image) else b""

    def piece(self, at: int, end: int) -> tuple[int, bytes | None]:
        index, within = divmod(at, self.grain)
        first, stop = at - within, min(end, at - within + self.grain)
        entry = self.directory[index // self.entries]
        entry = entry and self.numbers(self.table(entry), self.entries)[index % self.entries]
        if not entry:
            return stop, None
        length = min(self.grain, self.size - first)
        grain = self.meaning(entry, first, length)
        if grain is None or len(grain) < length:
            return stop, unreadable(stop - at)
        return stop, grain[within : within + stop - at]


class Hosted(Sparse):
    """KDMV: grains as they are, or packed."""

    def __init__(self, image: bytes) -> None:
        _, _, flags, capacity, grain, *_, entries, _, directory, overhead, _, _, _ = head = self.header(image[:SECTOR])
        if directory == AT_END:
            foot = self.header(image[-2 * SECTOR : -SECTOR])
            demand(struct.unpack_from("<QII", image[-3 * SECTOR :])[1:] == (0, 3), "no marker of a footer")
            demand([foot[at] for at in (2, 3, 4, 7)] == [head[at] for at in (2, 3, 4, 7)], "another footer")
            directory, overhead = foot[9], foot[10]
        self.flags, self.overhead = flags, overhead
        super().__init__(image, capacity, grain, entries, 4, directory)

    def header(self, sector: bytes) -> tuple[Any, ...]:
        demand(len(sector) == SECTOR and sector[:4] == b"KDMV", "no header")
        fields = _HEADER.unpack_from(sector)
        _, version, flags, _, grain, _, _, entries, _, _, _, _, newlines, algorithm = fields
        demand(
            1 <= version <= 3 and not flags >> 18 and algorithm == flags >> 16 & 1 == flags >> 17, "version or flags"
        )
        demand(not flags & 1 or newlines == NEWLINES, "converted newlines")
        demand(grain in [1 << bit for bit in range(13)] and 1 <= entries <= 512, "grains or tables of another size")
        return fields

    def meaning(self, entry: int, at: int, length: int) -> bytes | None:
        if entry == 1 and self.flags & 4:
            return bytes(length)
        if entry < self.overhead:
            return None
        return self.packed(entry * SECTOR, at, length) if self.flags >> 16 else self.here(entry * SECTOR, length)

    def packed(self, place: int, at: int, length: int) -> bytes | None:
        sector, size = struct.unpack("<QI", self.here(place, 12) or bytes(12))
        if sector * SECTOR != at or not 0 < size <= 2 * self.grain:
            return None
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(self.here(place + 12, size), self.grain + 1)
        except zlib.error:
            return None
        return data if unpacker.eof and length <= len(data) <= self.grain else None


class Cowd(Sparse):
    """COWD."""

    def __init__(self, image: bytes) -> None:
        _, version, flags, capacity, grain, directory, count = struct.unpack_from("<4s6I", image)
        demand((version, flags) == (1, 3) and grain in [1 << bit for bit in range(13)], "version, flags or grains")
        demand(count >= -(-capacity // (4096 * grain)) and directory >= 4, "a small directory, or within the header")
        super().__init__(image, capacity, grain, 4096, 4, directory)

    def meaning(self, entry: int, at: int, length: int) -> bytes | None:
        return self.here(entry * SECTOR, length) if entry >= 4 else None


class SeSparse(Sparse):
    """seSparse."""

    def __init__(self, image: bytes) -> None:
        said: dict[str, int] = dict(zip(SESPARSE_FIELDS, struct.unpack_from("<26Q", image), strict=True))
        self.said = said
        sizes = said["version"], said["grain_size"], said["grain_table_size"]
        demand(
            sizes == (0x200000001, SESPARSE, 64) and not any(image[40:80]) and not any(image[208:512]), "other fields"
        )
        at = said["volatile_header_offset"] * SECTOR
        volatile = image[at : at + SECTOR].ljust(SECTOR, b"\0")
        demand(volatile[:8] == bytes.fromhex("fecafeca00000000") and not any(volatile[24:32]), "a journal to replay")
        demand(said["grain_dir_size"] * 64 >= -(-said["capacity"] // (4096 * SESPARSE)), "a small directory")
        demand(said["grains_offset"] > 0, "grains on the header")
        super().__init__(image, said["capacity"], SESPARSE, 4096, 8, said["grain_dir_offset"])

    def table(self, entry: int) -> int:
        number = entry & 0xFFFFFFFF
        demand(entry >> 32 == 0x10000000 and (number + 1) * 64 <= self.said["grain_tables_size"], "no table")
        return (self.said["grain_tables_offset"] + 64 * number) * SECTOR

    def meaning(self, entry: int, at: int, length: int) -> bytes | None:
        number = (entry >> 48 & 0xFFF) + ((entry & (1 << 48) - 1) << 12)
        if entry >> 60 == 3:
            return self.here((self.said["grains_offset"] + SESPARSE * number) * SECTOR, length)
        return bytes(length) if entry >> 60 in (1, 2) else None


_KINDS = {b"KDMV": Hosted, b"COWD": Cowd, bytes.fromhex("bebafeca"): SeSparse}


def text_of(image: bytes) -> bytes | None:
    """Return the descriptor of an image, None of what has none."""
    text = image
    if image[:4] == b"KDMV":
        at, sectors = struct.unpack_from("<QQ", image.ljust(SECTOR, b"\0"), 28)
        text = image[at * SECTOR : (at + sectors) * SECTOR] if at else b""
    elif image.lstrip()[:21].lower() != b"# disk descriptorfile" or len(image) > _MIB:
        return None
    return text.split(b"\0")[0]


class Descriptor:
    """What a descriptor says: keys in lower case, and for extents what the columns of their lines are."""

    def __init__(self, text: bytes, *, embedded: bool) -> None:
        self.values, self.lines = dict[bytes, bytes](), list[tuple[bytes, ...]]()
        for line in (each.strip() for each in text.split(b"\n")):
            key, equals, value = line.partition(b"=")
            if not embedded and (match := _LINE.fullmatch(line)):
                self.lines.append(match.groups(b""))
            elif equals and line[:1] != b"#":
                value = value.strip()
                is_quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
                self.values.setdefault(key.strip().lower(), value[1:-1] if is_quoted else value)
            else:
                demand(embedded or not line or line[:1] == b"#", "a line of no known form")
        self.hint = self.values.get(b"parentfilenamehint", b"")
        self.cid, self.parent = self.number(b"cid"), self.number(b"parentcid")
        demand(self.values.get(b"version") in (b"1", b"2", b"3"), "version")
        demand(not any(key.startswith(b"encryption") for key in self.values), "encrypted")
        demand(bool(self.hint) == (self.parent is not None), "parentCID and parentFileNameHint do not go together")

    def number(self, key: bytes) -> int | None:
        value = self.values.get(key, b"ffffffff")
        demand(re.fullmatch(rb"(0x)?[0-9a-fA-F]{1,8}", value) is not None, f"no {key.decode()}")
        return None if int(value, 16) == 0xFFFFFFFF else int(value, 16)


def _extent(line: tuple[bytes, ...], files: Mapping[str, bytes]) -> Extent:
    access, sectors, stated, name, offset = line
    kind, size = stated.upper(), int(sectors) * SECTOR
    demand(0 < size <= 1 << 63, "no sectors")
    if kind == b"ZERO":
        return Zeros(size)
    path = normpath(name.decode(errors="replace"))
    demand(access.upper() != b"NOACCESS" and path in files, "no access, or no such file")
    image = files[path]
    if kind in (b"FLAT", b"VMFS"):
        return Plain(image, int(offset or 0) * SECTOR, size)
    demand(kind in (b"SPARSE", b"VMFSSPARSE", b"SESPARSE") and image[:4] in _KINDS, "an unknown type")
    found = _KINDS[image[:4]](image.ljust(SECTOR, b"\0"))
    demand(found.size == size and not int(offset or 0), "another size, or an offset")
    return found


class Disk:
    """An image, and those below it."""

    def __init__(self, files: Mapping[str, bytes], name: str, above: tuple[str, ...] = ()) -> None:
        image, text = files[name], text_of(files[name])
        demand(text is not None and name not in above, "no image, or twice in its chain")
        said = Descriptor(text or b"", embedded=image[:4] == b"KDMV")
        if image[:4] == b"KDMV":
            demand(b"createtype" in said.values, "an extent, no image")
            self.extents: list[Extent] = [Hosted(image)]
        else:
            self.extents = [_extent(line, files) for line in said.lines]
            demand(bool(self.extents), "no extents")
        self.size = sum(each.size for each in self.extents)
        self.below = None
        if said.parent is not None:
            self.below = Disk(files, _parent(files, said), (*above, name))

    def read(self, start: int, end: int) -> bytes:
        found, origin = bytearray(), 0
        for extent in self.extents:
            at = max(start, origin)
            while at < min(end, origin + extent.size):
                stop, data = extent.piece(at - origin, min(end - origin, extent.size))
                stop += origin
                if data is None:
                    data = self.below.read(at, stop) if self.below else bytes(stop - at)
                found += data
                at = stop
            origin += extent.size
        return bytes(found.ljust(end - start, b"\0"))


def _parent(files: Mapping[str, bytes], child: Descriptor) -> str:
    """Return the image that has the CID; of several the one that the child names."""
    found = [name for name, image in files.items() if _cid(image) == child.parent]
    named = [name for name in found if child.hint.decode(errors="replace").replace("\\", "/").endswith(name)]
    demand(bool(found), "no parent")
    return (named or found)[0]


def _cid(image: bytes) -> int | None:
    try:
        return Descriptor(text_of(image) or b"", embedded=image[:4] == b"KDMV").cid
    except ValueError:
        return None


def virtual_size(image: bytes) -> int:
    """Return how large the disk is."""
    if image[:4] == b"KDMV":
        return int(_HEADER.unpack_from(image)[3]) * SECTOR
    return sum(int(line[1]) for line in Descriptor(text_of(image) or b"", embedded=False).lines) * SECTOR


def plain_read(files: Mapping[str, bytes], start: int, end: int) -> bytes:
    """Return a part of the disk of a chain. files: of all its images and their extents, by name, the top first."""
    return Disk(files, next(iter(files))).read(start, end)
