"""VMDK files built by docs/formats.md, with nothing of vdifs in it: rules broken, and what nothing else writes."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

SECTOR = 512
GRAIN = 128
"""Sectors in a grain, as nearly all files have it."""
AT_END = (1 << 64) - 1
NEWLINES = b"\n \r\n"

Grains = Mapping[int, bytes | Literal["zero"]]
"""By their number; what is absent is nothing."""


def descriptor(
    *lines: str | bytes, cid: str = "12345678", parent_cid: str = "ffffffff", hint: str | bytes = b"", more: bytes = b""
) -> bytes:
    """Return a descriptor as QEMU writes it. hint: of the parent. more: lines of its own."""
    named = b'parentFileNameHint="' + as_bytes(hint) + b'"\n' if hint else b""
    head = f'# Disk DescriptorFile\nversion=1\nCID={cid}\nparentCID={parent_cid}\ncreateType="custom"\n'
    extents = b"".join(as_bytes(line) + b"\n" for line in lines)
    return head.encode() + named + more + b"\n# Extent description\n" + extents + b"\n# The Disk Data Base\n#DDB\n"


def as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def header(**fields: int | bytes) -> bytes:
    """Return a header, or footer, of a hosted sparse file, in its sector."""
    values: dict[str, int | bytes] = {
        "magic": b"KDMV", "version": 1, "flags": 3, "capacity": 0, "grain_size": GRAIN, "descriptor_offset": 0,
        "descriptor_size": 0, "num_gtes_per_gt": 512, "rgd_offset": 0, "gd_offset": 0, "overhead": 0,
        "unclean_shutdown": 0, "newlines": NEWLINES, "compress_algorithm": 0,
    }  # fmt: skip
    assert not set(fields) - set(values)
    return struct.pack("<4sIIQQQQIQQQB4sH", *(values | fields).values()).ljust(SECTOR, b"\0")


def sectors(data: bytes) -> bytes:
    """Return `data` filled up with zeros to whole sectors."""
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")


def hosted(
    capacity: int,
    grains: Grains,
    text: bytes = b"",
    /,
    *,
    grain: int = GRAIN,
    entries: int = 512,
    **fields: int | bytes,
) -> bytes:
    """Return a sparse file of `capacity` sectors with tables before the grains. fields: of the header, otherwise."""
    zero = 4 if "zero" in grains.values() else 0
    tables = sorted({index // entries for index in grains})
    directory_entries = -(-capacity // (entries * grain))
    directory_at = 1 + len(sectors(text)) // SECTOR
    tables_at = directory_at + len(sectors(bytes(4 * directory_entries))) // SECTOR
    table_sectors = len(sectors(bytes(4 * entries))) // SECTOR
    overhead = tables_at + len(tables) * table_sectors
    at = {table: tables_at + n * table_sectors for n, table in enumerate(tables)}
    directory = struct.pack(f"<{directory_entries}I", *(at.get(n, 0) for n in range(directory_entries)))
    lower = {table: [0] * entries for table in tables}
    stored: list[bytes] = []
    for index, data in sorted(grains.items()):
        lower[index // entries][index % entries] = 1 if data == "zero" else overhead + len(stored) * grain
        if data != "zero":
            assert len(data) == grain * SECTOR
            stored.append(data)
    head = {
        "flags": 1 | zero, "capacity": capacity, "grain_size": grain, "num_gtes_per_gt": entries,
        "gd_offset": directory_at, "overhead": overhead,
    } | ({"descriptor_offset": 1, "descriptor_size": len(sectors(text)) // SECTOR} if text else {})  # fmt: skip
    packed = b"".join(sectors(struct.pack(f"<{entries}I", *lower[table])) for table in tables)
    return b"".join([header(**(head | fields)), sectors(text), sectors(directory), packed, *stored])


def stream(
    capacity: int,
    grains: Mapping[int, bytes],
    text: bytes = b"",
    /,
    *,
    grain: int = GRAIN,
    footer: bool = True,
    packed: Mapping[int, bytes] | None = None,
    markers: Mapping[int, tuple[int, int]] | None = None,
    **fields: int | bytes,
) -> bytes:
    """Return a streamOptimized file.

    packed: other bytes than zlib's for a grain. markers: another sector, and another length, before it. fields: of the
    footer where there is one, else of the header.
    """
    body: list[bytes] = []
    at = overhead = 128
    entries: dict[int, dict[int, int]] = {}
    for index, data in sorted(grains.items()):
        stored = (packed or {}).get(index, zlib.compress(data))
        sector, length = (markers or {}).get(index, (index * grain, len(stored)))
        entries.setdefault(index // 512, {})[index % 512] = at
        body.append(sectors(struct.pack("<QI", sector, length) + stored))
        at += len(body[-1]) // SECTOR
    directory = [0] * -(-capacity // (512 * grain))
    for table, of_table in entries.items():
        body += [sectors(struct.pack("<QII", 4, 0, 1)), struct.pack("<512I", *(of_table.get(n, 0) for n in range(512)))]
        directory[table] = at + 1
        at += 5
    stored = sectors(struct.pack(f"<{len(directory)}I", *directory))
    body += [sectors(struct.pack("<QII", len(stored) // SECTOR, 0, 2)), stored]
    known: dict[str, int | bytes] = {
        "version": 3, "flags": 0x30001, "capacity": capacity, "grain_size": grain, "descriptor_offset": 1,
        "descriptor_size": 20, "overhead": overhead, "compress_algorithm": 1, "gd_offset": at + 1,
    }  # fmt: skip
    last = header(**(known | fields))
    head = header(**(known | {"gd_offset": AT_END})) if footer else last
    if footer:
        body += [sectors(struct.pack("<QII", 1, 0, 3)), last, bytes(SECTOR)]
    return head + text.ljust(20 * SECTOR, b"\0") + bytes((overhead - 21) * SECTOR) + b"".join(body)


def cowd(capacity: int, grains: Mapping[int, bytes], /, *, grain: int = 1, **fields: int | bytes) -> bytes:
    """Return a COWD file of `capacity` sectors. fields: of the header, otherwise."""
    directory_entries = -(-capacity // (4096 * grain))
    tables = sorted({index // 4096 for index in grains})
    tables_at = 4 + -(-directory_entries // 128)
    at = {table: tables_at + n * 32 for n, table in enumerate(tables)}
    lower = {table: [0] * 4096 for table in tables}
    first = tables_at + len(tables) * 32
    for n, index in enumerate(sorted(grains)):
        lower[index // 4096][index % 4096] = first + n * grain
    values: dict[str, int | bytes] = {
        "magic": b"COWD", "version": 1, "flags": 3, "capacity": capacity, "grain_size": grain, "gd_offset": 4,
        "gd_entries": directory_entries,
    }  # fmt: skip
    head = struct.pack("<4sIIIIII", *(values | fields).values()).ljust(4 * SECTOR, b"\0")
    directory = struct.pack(f"<{directory_entries}I", *(at.get(n, 0) for n in range(directory_entries)))
    packed = [struct.pack("<4096I", *lower[table]) for table in tables]
    return b"".join([head, sectors(directory), *packed, *(grains[index] for index in sorted(grains))])


SESPARSE = 8
"""Sectors in a grain of seSparse."""
SESPARSE_FIELDS = (
    "magic version capacity grain_size grain_table_size flags reserved1 reserved2 reserved3 reserved4 "
    "volatile_header_offset volatile_header_size journal_header_offset journal_header_size journal_offset journal_size "
    "grain_dir_offset grain_dir_size grain_tables_offset grain_tables_size free_bitmap_offset free_bitmap_size "
    "backmap_offset backmap_size grains_offset grains_size"
).split()


def sesparse_entry(number: int, kind: int = 3) -> int:
    """Return the entry of a grain of that number."""
    return kind << 60 | (number & 0xFFF) << 48 | number >> 12


def sesparse(
    capacity: int,
    grains: Mapping[int, bytes | Literal["zero", "unmapped"]],
    /,
    *,
    entries: Mapping[int, int] | None = None,
    directory_entry: int | None = None,
    replay: int = 0,
    volatile_magic: int = 0xCAFECAFE,
    padding: bytes = b"",
    **fields: int,
) -> bytes:
    """Return a seSparse file. entries: of the first table, otherwise. fields: of the header, otherwise."""
    count = -(-capacity // (4096 * SESPARSE))
    tables = sorted({index // 4096 for index in grains} | ({0} if entries else set()))
    directory_sectors = -(-count // 64)
    tables_at = 8 + directory_sectors
    grains_at = tables_at + 64 * len(tables)
    known = dict.fromkeys(SESPARSE_FIELDS, 0) | {
        "magic": 0xCAFEBABE, "version": 0x200000001, "capacity": capacity, "grain_size": 8, "grain_table_size": 64,
        "volatile_header_offset": 1, "volatile_header_size": 1, "grain_dir_offset": 8,
        "grain_dir_size": directory_sectors, "grain_tables_offset": tables_at, "grain_tables_size": 64 * len(tables),
        "grains_offset": grains_at, "grains_size": SESPARSE * len(grains),
    }  # fmt: skip
    head = struct.pack("<26Q", *(known | fields).values()) + padding
    volatile = struct.pack("<4Q", volatile_magic, 0, 0, replay)
    directory = [0] * count
    lower: dict[int, list[int]] = {}
    for n, table in enumerate(tables):
        directory[table] = 0x10000000 << 32 | n if directory_entry is None else directory_entry
        lower[table] = [0] * 4096
    stored: list[bytes] = []
    for index, data in sorted(grains.items()):
        if isinstance(data, bytes):
            lower[index // 4096][index % 4096] = sesparse_entry(len(stored))
            stored.append(data)
        else:
            lower[index // 4096][index % 4096] = sesparse_entry(0, 2 if data == "zero" else 1)
    for index, entry in (entries or {}).items():
        lower[0][index] = entry
    packed = [struct.pack("<4096Q", *lower[table]) for table in tables]
    start = (sectors(head) + sectors(volatile)).ljust(8 * SECTOR, b"\0")
    return b"".join([start, sectors(struct.pack(f"<{count}Q", *directory)), *packed, *stored])


def write(folder: Path, name: str, content: bytes) -> Path:
    """Write a file and return its path. Blocks of zeros are holes."""
    path = folder / name
    with path.open("wb") as file:
        for at in range(0, len(content), 4096):
            if any(block := content[at : at + 4096]):
                file.seek(at)
                file.write(block)
        file.truncate(len(content))
    return path


def grain_of(mark: int, grain: int = GRAIN) -> bytes:
    """Return the bytes of a grain: no two sectors alike."""
    return b"".join(struct.pack("<QQ", mark, n) * 32 for n in range(grain))


def disk(capacity: int, grains: Mapping[int, bytes | str], grain: int = GRAIN, below: bytes = b"") -> bytes:
    """Return the disk that grains make up, over that of a parent."""
    whole = bytearray(below[: capacity * SECTOR].ljust(capacity * SECTOR, b"\0"))
    for index, data in grains.items():
        at = index * grain * SECTOR
        length = min(grain * SECTOR, len(whole) - at)
        whole[at : at + length] = data[:length] if isinstance(data, bytes) else bytes(length)
    return bytes(whole)
