"""What fuzzing needs of VMDKs: chains of all kinds of extents, where their numbers are, and damaged descriptors."""

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

from tests.support import vmdk
from tests.support.vmdk import AT_END, SECTOR
from tests.support.vmdk_plain import text_of

__all__ = ["make_vmdks", "rewrite", "vmdk_numbers"]

_MOST_DEPTH = 3
_OF_EXTENTS, _OF_MEANING = 0.6, 0.5
"""How often the line that is damaged is that of an extent, and how often a file is damaged where a rule of its own is.

A number drawn at random hardly ever is the one that breaks the rule and nothing else.
"""
_MOST_SECTORS = 1400
_ENTRIES = 12
_COLUMNS = {
    0: [b"RW", b"RDONLY", b"NOACCESS", b"rw"],
    2: [b"FLAT", b"VMFS", b"SPARSE", b"VMFSSPARSE", b"SESPARSE", b"ZERO", b"VMFSRDM"],
}
"""What the columns of the line of an extent may say."""
_SAID = [
    *_COLUMNS[0], *_COLUMNS[2], b"0", b"1", b"-1", b"64", b"18014398509481985",
    b"18446744073709551615", b"CID=ffffffff", b"parentCID=ffffffff",
    b"version=4", b'""', b'"../0.vmdk"', b'"/etc/hostname"', b'"0.vmdk"', b'"1.vmdk"', b'"0-s000.vmdk"', b"=", b"#",
    b'encryptionKeys="x"', b'encoding="Shift_JIS"', b"RW 1 ZERO", b'RW 1 FLAT "0-s000.vmdk" 0',
    b'parentFileNameHint="0.vmdk"',
]  # fmt: skip


def make_vmdks(rng: Random, folder: Path) -> list[Path]:
    """Write a chain; return its files, those of the top first, of each image its descriptor before its extents."""
    sectors, parent_cid, below = rng.randint(1, _MOST_SECTORS), "ffffffff", ""
    paths = list[Path]()
    for level in range(rng.randint(1, _MOST_DEPTH)):
        name, cid = f"{level}.vmdk", f"{rng.randrange(1, (1 << 32) - 1):08x}"
        if level and rng.random() < 0.3:
            sectors = rng.randint(1, _MOST_SECTORS)
        hint = below and rng.choice([below, below, f"./{below}", rf"C:\machines\{below}"])
        said = {"cid": cid, "parent_cid": parent_cid, "hint": hint}
        if rng.random() < 0.4:
            made = rng.choice([_hosted, _stream])
            parts = {name: made(rng, sectors, vmdk.descriptor(f'RW {sectors} SPARSE "{name}"', **said))}  # type: ignore[arg-type] # all are words
        else:
            lines, parts = _extents(rng, level, sectors)
            parts = {name: vmdk.descriptor(*lines, **said), **parts}  # type: ignore[arg-type] # all are words
        paths = [vmdk.write(folder, part, content) for part, content in parts.items()] + paths
        parent_cid, below = cid, name
    return paths


def _extents(rng: Random, level: int, sectors: int) -> tuple[list[str], dict[str, bytes]]:
    """Return the lines of one to three extents, and their files."""
    cuts = sorted({0, sectors, *(rng.randrange(sectors) for _ in range(rng.choice([0, 0, 1, 2])))})
    lines, parts = list[str](), dict[str, bytes]()
    for number, (start, end) in enumerate(pairwise(cuts)):
        name, access = f"{level}-s{number:03}.vmdk", rng.choice(["RW", "RW", "RDONLY"])
        kind = rng.choice(["FLAT", "ZERO", "SPARSE", "SPARSE", "VMFSSPARSE", *["SESPARSE", "stream"] * 2])
        if kind == "stream" and len(cuts) > 2:  # several are not read unless their grains fit one another
            kind = "SPARSE"
        if kind == "ZERO":
            lines.append(f"{access} {end - start} ZERO")
            continue
        before = rng.choice([0, 3]) if kind == "FLAT" else 0
        parts[name] = _content(rng, kind, end - start, before)
        stated = "SPARSE" if kind == "stream" else kind
        lines.append(f'{access} {end - start} {stated} "{name}"' + (f" {before}" if kind == "FLAT" else ""))
    return lines, parts


def _content(rng: Random, kind: str, sectors: int, before: int) -> bytes:
    match kind:
        case "FLAT":
            return vmdk.grain_of(rng.getrandbits(60), before + sectors)
        case "stream":
            return _stream(rng, sectors)
        case "SPARSE":
            return _hosted(rng, sectors)
        case "VMFSSPARSE":
            grain = rng.choice([1, 8, 128])
            return vmdk.cowd(sectors, _grains(rng, sectors, grain), grain=grain)
    grains: dict[int, bytes | str] = {index: rng.choice(["zero", "unmapped"]) for index in _grains(rng, sectors, 8)}
    grains |= _grains(rng, sectors, 8)
    return vmdk.sesparse(sectors, grains)  # type: ignore[arg-type] # kinds are words


def _grains(rng: Random, sectors: int, grain: int) -> dict[int, bytes]:
    count = -(-sectors // grain)
    found = rng.sample(range(count), min(count, rng.randint(0, 10)))
    return {index: vmdk.grain_of(rng.getrandbits(60), grain) for index in found}


def _hosted(rng: Random, sectors: int, text: bytes = b"") -> bytes:
    grain, entries = rng.choice([1, 8, 16, 128]), rng.choice([512, 64, 7])
    grains: dict[int, bytes | str] = {}
    if rng.random() < 0.4:
        grains |= dict.fromkeys(_grains(rng, sectors, grain), "zero")
    grains |= _grains(rng, sectors, grain)
    return vmdk.hosted(sectors, grains, text, grain=grain, entries=entries)  # type: ignore[arg-type] # kinds are words


def _stream(rng: Random, sectors: int, text: bytes = b"") -> bytes:
    grain = rng.choice([8, 16, 128])
    grains = _grains(rng, sectors, grain)
    packed = {index: zlib.compress(data, rng.choice([0, 1, 6])) for index, data in grains.items()}
    return vmdk.stream(sectors, grains, text, grain=grain, packed=packed, footer=rng.random() < 0.7)


def vmdk_numbers(image: bytes) -> list[tuple[int, int]]:
    """Return where numbers are: (offset, length). None in descriptors and flat files."""
    if image[:4] == b"KDMV":
        fields = [(4, 4), (8, 4), (44, 4), (72, 1), (77, 2), *((at, 8) for at in (12, 20, 28, 36, 48, 56, 64))]
        foot = len(image) - 2 * SECTOR
        if _number(image, 56, 8) == AT_END:
            fields += [(foot + at, length) for at, length in fields] + [(foot - SECTOR + at, 4) for at in (0, 8, 12)]
        return fields + list(_hosted_tables(image)) * 2 + list(_markers(image)) * 3
    if image[:4] == b"COWD":
        return [(at, 4) for at in range(4, 28, 4)] + list(_tables(image, _number(image, 20, 4), 4)) * 2
    if image[:4] == bytes.fromhex("bebafeca"):
        fields = [(at, 8) for at in range(8, 216, 8)] + [(SECTOR + at, 8) for at in (0, 24)]
        return fields + list(_sesparse_tables(image)) * 2
    return []


def _number(image: bytes | bytearray, at: int, length: int) -> int:
    return int.from_bytes(image[max(0, at) : max(0, at) + length], "little")


def _tables(image: bytes | bytearray, directory: int, width: int, origin: int = 0) -> Iterator[tuple[int, int]]:
    """Yield where the first entries of the directory are, and of its tables those in use and some others."""
    entries = range(directory * SECTOR, directory * SECTOR + 4 * width, width)
    yield from [(at, width) for at in entries] * 2
    for entry in (_number(image, at, width) for at in entries):
        if entry:
            table = (origin + 64 * (entry & 0xFFFFFFFF) if width == 8 else entry) * SECTOR
            places = range(table, table + 512 * width, width)
            used = [each for each in places if _number(image, each, width)]
            yield from ((each, width) for each in [*places[:2], *used[:_ENTRIES]])


def _sesparse_tables(image: bytes | bytearray) -> Iterator[tuple[int, int]]:
    return _tables(image, _number(image, 128, 8), 8, _number(image, 144, 8))


def _hosted_tables(image: bytes | bytearray) -> Iterator[tuple[int, int]]:
    directory = _number(image, 56, 8)
    return _tables(image, _number(image, len(image) - 2 * SECTOR + 56, 8) if directory == AT_END else directory, 4)


def _markers(image: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Yield where the markers of packed grains are, and what is behind each."""
    is_packed = image[:4] == b"KDMV" and _number(image, 8, 4) >> 16
    for at, width in _hosted_tables(image) if is_packed else ():
        if place := _number(image, at, width) * SECTOR:
            yield from [(place, 8), (place + 8, 4), (place + 12, 2), (place + 14, 4)]


def rewrite(rng: Random, image: bytearray) -> str:
    """Damage lines of a descriptor, or what is a rule of its own, and tell how; return nothing where there is none."""
    text = text_of(bytes(image))
    if (not text or rng.random() < _OF_MEANING) and (what := _break_rule(rng, image)):
        return what
    if not text:
        return ""
    embedded = image[:4] == b"KDMV"
    lines = text.split(b"\n")
    what = _change_lines(rng, lines)
    new = b"\n".join(lines)
    if not embedded:
        image[:] = new
        return f"descriptor: {what}"
    at, sectors = struct.unpack_from("<QQ", image, 28)
    length = min(sectors * SECTOR, len(image) - at * SECTOR)
    image[at * SECTOR : at * SECTOR + length] = new[:length].ljust(length, b"\0")
    return f"descriptor inside: {what}"


def _break_rule(rng: Random, image: bytearray) -> str:
    """Have another capacity, a packed grain without its end, a journal to replay, or a grain of no known type."""
    capacity = {b"KDMV": (12, 8), b"COWD": (12, 4), b"\xbe\xba\xfe\xca": (16, 8)}.get(bytes(image[:4]))
    if capacity is not None and rng.random() < 0.2:
        at, length = capacity
        sectors = max(1, _number(image, at, length) + rng.choice([-8, -1, 1, 8]))
        image[at : at + length] = sectors.to_bytes(length, "little")
        return f"a capacity of {sectors} sectors"
    if image[:4] == bytes.fromhex("bebafeca") and len(image) > 2 * SECTOR:
        if rng.random() < 0.5:
            image[SECTOR + 24] = 1
            return "a journal to replay"
        if places := [
            at for at, _ in _sesparse_tables(image) if bytes(image[at + 7 : at + 8]) not in (b"", b"\0", b"\x10")
        ]:
            at = rng.choice(places) + 7
            image[at] = rng.randrange(16) << 4 | image[at] & 15
            return f"a grain of the type {image[at] >> 4} at {at - 7:#x}"
    markers = [at for at, width in _markers(image) if width == 8 and at + 12 <= len(image)]
    if markers:
        at = rng.choice(markers) + 8
        length = max(0, _number(image, at, 4) - rng.choice([1, 2, 4, 5]))
        image[at : at + 4] = length.to_bytes(4, "little")
        return f"a packed grain of {length} bytes at {at - 8:#x}"
    return ""


def _change_lines(rng: Random, lines: list[bytes]) -> str:
    telling = [index for index, line in enumerate(lines) if line and not line.startswith(b"#")] or [0]
    extents = [index for index in telling if lines[index][:1] in b"RN"]
    index, other = rng.choice(extents if extents and rng.random() < _OF_EXTENTS else telling), rng.choice(telling)
    line = lines[index]
    words = line.split(b" ") if b" " in line else [*line.partition(b"=")]
    kind = rng.choice("drop double again again swap word word word column column add byte form".split())
    match kind:
        case "drop":
            del lines[index]
        case "double":
            lines.insert(other, line)
        case "again":  # the first of a key counts
            key, equals, value = line.partition(b"=")
            changed = rng.choice([rng.choice(_SAID), value[:-1] + b"1", value.swapcase()])
            lines.insert(rng.choice([index, index + 1]), key + equals + changed)
        case "column" if b" " in line:
            column = rng.choice([0, 2])
            words[min(column, len(words) - 1)] = rng.choice(_COLUMNS[column])
            lines[index] = b" ".join(words)
        case "swap":
            lines[index], lines[other] = lines[other], line
        case "word":
            column = rng.randrange(len(words))
            foreign = rng.choice(lines[other].replace(b"=", b" ").split(b" "))
            words[column] = rng.choice([foreign, rng.choice(_SAID), rng.choice(_COLUMNS.get(column, _SAID))])
            lines[index] = (b" " if b" " in line else b"").join(words)
        case "add":
            lines.insert(index, rng.choice(_SAID))
        case "byte" if line:
            at = rng.randrange(len(line))
            lines[index] = line[:at] + rng.randbytes(1) + line[at + 1 :]
        case _:
            lines[index] = rng.choice([line.lower(), line.upper(), line + b"\r", b"  " + line, line.replace(b'"', b"")])
    return f"{kind} {line!r}, now {lines[min(index, len(lines) - 1)]!r}" if lines else kind
