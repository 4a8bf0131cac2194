"""Random chains of VMDK images, each level written by QEMU, by FATtools or by hand, and the disk that they must be."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import oracle, vmdk
from tests.support.vmdk import SECTOR

_KIB, _MIB = 1 << 10, 1 << 20
_GRAIN = 64 << 10


@dataclass
class Made:
    """A chain, its base first. disks: what each level is. by_qemu, by_libvmdk, by_7zip: who reads it, or its base."""

    names: list[str] = field(default_factory=list)
    disks: list[bytes] = field(default_factory=list)
    how: list[str] = field(default_factory=list)
    by_qemu: bool = True
    by_libvmdk: bool = True
    by_7zip: bool = False


@dataclass
class _Level:
    folder: Path
    rng: random.Random
    name: str
    below: str | None
    size: int
    disk: bytearray
    parent_end: int
    made: Made

    @property
    def path(self) -> Path:
        return self.folder / self.name

    def put(self, offset: int, data: bytes) -> None:
        """Take note of what was written, as far as it lies on the disk."""
        count = max(0, min(len(data), self.size - offset))
        self.disk[offset : offset + count] = data[:count]


def make_chain(folder: Path, rng: random.Random) -> Made:
    """Write a chain of 1 to 6 images."""
    made = Made()
    size = _size(rng)
    disk = bytearray(size)
    for depth in range(rng.randint(1, 6)):
        below, parent_end = (made.names[-1], len(disk)) if depth else (None, size)
        if depth and rng.random() < 0.25:
            size = _size(rng) if rng.random() < 0.5 else max(SECTOR, size + rng.randint(-64, 64) * SECTOR)
        disk = disk[:size] + bytes(max(0, size - len(disk)))
        if below is not None and size != parent_end:
            made.by_libvmdk = False
        level = _Level(folder, rng, f"{depth}.vmdk", below, size, disk, parent_end, made)
        kind = rng.choice(_BASES if below is None else _CHILDREN)
        kind = _possible(kind, level)
        if below is None:
            made.by_7zip = kind is _qemu_flat or kind is _fattools
        made.how.append(f"{kind.__name__} {size}")
        kind(level)
        made.names.append(level.name)
        made.disks.append(bytes(disk))
    return made


def _possible(kind: "_Kind", level: _Level) -> "_Kind":
    """Return `kind`, or another where it cannot write above what is there: QEMU must read it, FATtools have made it."""
    made = level.made
    if kind is _fattools:
        alike = all(each.startswith("_fattools") for each in made.how) and level.size == level.parent_end
        kind = kind if alike and level.size % _MIB == 0 else _qemu_sparse
    return _hosted if kind.__name__.startswith("_qemu") and not made.by_qemu else kind


def _size(rng: random.Random) -> int:
    if rng.random() < 0.4:
        return rng.randint(1, 8) * _MIB
    return rng.choice([rng.randint(1, 400), rng.randint(1000, 20000), 65536 + rng.randint(-130, 130)]) * SECTOR


def _create(level: _Level, subformat: str, *more: str) -> None:
    backing = () if level.below is None else ("-b", level.below, "-F", "vmdk")
    options = ",".join([f"subformat={subformat}", *more])
    size = str(level.size)
    oracle.qemu_img("create", "-q", "-f", "vmdk", "-o", options, *backing, level.name, size, cwd=level.folder)


def _ranges(level: _Level, unit: int, most: int = 8) -> list[tuple[int, int]]:
    """Return some ranges of the disk, in whole units but for its end."""
    rng, units = level.rng, -(-level.size // unit)
    found: list[tuple[int, int]] = []
    for _ in range(rng.randint(0, most)):
        start = rng.randrange(units)
        stop = min(units, start + rng.choice([1, 1, 2, 5, max(1, (200 * _KIB) // unit)]))
        found.append((start * unit, min(level.size, stop * unit)))
    return found


def _qemu_io(level: _Level, *, zeros: bool) -> None:
    commands: list[str] = []
    for start, end in _ranges(level, SECTOR if level.size <= level.parent_end else _GRAIN):
        if start >= end:
            continue
        if zeros and level.rng.random() < 0.5:
            commands.append(f"write -z {start} {end - start}")
            level.put(start, bytes(end - start))
        else:
            mark = level.rng.randint(1, 255)
            commands.append(f"write -P {mark} {start} {end - start}")
            level.put(start, bytes([mark]) * (end - start))
    if commands:
        oracle.qemu_io(level.name, commands, format="vmdk", cwd=level.folder)


def _qemu_sparse(level: _Level) -> None:
    zeroed = level.rng.random() < 0.5
    subformat = level.rng.choice(["monolithicSparse", "twoGbMaxExtentSparse"])
    if zeroed:
        level.made.by_libvmdk = False
    _create(level, subformat, *(["zeroed_grain=on"] if zeroed else []))
    _qemu_io(level, zeros=zeroed)


def _qemu_flat(level: _Level) -> None:
    _create(level, level.rng.choice(["monolithicFlat", "twoGbMaxExtentFlat"]))
    _qemu_io(level, zeros=False)


def _qemu_stream(level: _Level) -> None:
    _create(level, "streamOptimized")
    commands: list[str] = []
    units = level.size // _GRAIN
    for index in level.rng.sample(range(units), min(units, level.rng.randint(0, 9))):
        mark = level.rng.randint(0, 255)
        commands.append(f"write -P {mark} {index * _GRAIN} {_GRAIN}")
        level.put(index * _GRAIN, bytes([mark]) * _GRAIN)
    if commands:
        oracle.qemu_io(level.name, commands, format="vmdk", cwd=level.folder)


_FATTOOLS = """
import sys
from FATtools import vmdkutils
name, below, size, block, *writes = sys.argv[1:]
if below:
    vmdkutils.mk_diff(name, below)
else:
    vmdkutils.mk_dynamic(name, int(size), block=int(block), overwrite="yes")
image = vmdkutils.Image(name, "r+b")
for write in writes:
    offset, length, mark = map(int, write.split(","))
    image.seek(offset)
    image.write(bytes([mark]) * length)
image.flush()
image.close()
"""


def _fattools(level: _Level) -> None:
    writes: list[str] = []
    for start, end in _ranges(level, SECTOR):
        mark = level.rng.randint(1, 255)
        writes.append(f"{start},{end - start},{mark}")
        level.put(start, bytes([mark]) * (end - start))
    arguments = [level.name, level.below or "", str(level.size), str(_GRAIN), *writes]
    command = [sys.executable, "-c", _FATTOOLS, *arguments]
    done = subprocess.run(command, cwd=level.folder, capture_output=True, timeout=100)
    assert not done.returncode, done.stderr.decode(errors="replace")


def _grains(level: _Level, grain: int, kinds: list[str]) -> dict[int, bytes | str]:
    """Return some grains of that many sectors, each a kind of zeros or data."""
    size, rng = grain * SECTOR, level.rng
    count = -(-level.size // size)
    found: dict[int, bytes | str] = {}
    for first, last in _ranges(level, size, 12):
        for index in range(first // size, min(count, -(-last // size), first // size + 600)):
            kind = rng.choice(kinds)
            data = vmdk.grain_of(rng.getrandbits(60), grain) if kind == "data" else kind
            found[index] = data
            level.put(index * size, data if isinstance(data, bytes) else bytes(size))
    return found


def _text(level: _Level, create_type: str, *lines: str) -> bytes:
    return vmdk.descriptor(
        *lines, cid=f"{level.rng.randrange(1 << 32):08x}", parent_cid=_cid(level), hint=level.below or ""
    ).replace(b"custom", create_type.encode())


def _cid(level: _Level) -> str:
    if level.below is None:
        return "ffffffff"
    text = (level.folder / level.below).read_bytes()[: 1 << 16]
    at = text.lower().index(b"\ncid=") + 5
    return text[at:].split(b"\n", 1)[0].strip().decode()  # QEMU leaves out leading zeros


def _hosted(level: _Level) -> None:
    grain, entries = level.rng.choice([1, 8, 16, 128, 256]), level.rng.choice([512, 512, 64, 77])
    grains = _grains(level, grain, ["data", "zero"] if level.rng.random() < 0.5 else ["data"])
    level.made.by_libvmdk &= "zero" not in grains.values() and entries == 512 and grain > 8
    sectors = level.size // SECTOR
    text = _text(level, "monolithicSparse", f'RW {sectors} SPARSE "{level.name}"')
    content = vmdk.hosted(sectors, grains, text, grain=grain, entries=entries)  # type: ignore[arg-type] # kinds are words
    vmdk.write(level.folder, level.name, content)


def _one_extent(level: _Level, content: bytes, stated: str, create_type: str) -> None:
    part = f"{level.name[:-5]}-delta.vmdk"
    vmdk.write(level.folder, part, content)
    line = f'RW {level.size // SECTOR} {stated} "{part}"'
    vmdk.write(level.folder, level.name, _text(level, create_type, line))


def _cowd(level: _Level) -> None:
    grain = level.rng.choice([1, 1, 8, 128])
    grains = _grains(level, grain, ["data"])
    content = vmdk.cowd(level.size // SECTOR, grains, grain=grain)  # type: ignore[arg-type] # data alone
    _one_extent(level, content, "VMFSSPARSE", "vmfsSparse")


def _sesparse(level: _Level) -> None:
    grains = _grains(level, 8, ["data", "data", "zero", "unmapped"])
    level.made.by_libvmdk = False
    content = vmdk.sesparse(level.size // SECTOR, grains)  # type: ignore[arg-type] # kinds are words
    _one_extent(level, content, "SESPARSE", "seSparse")


def _mixed(level: _Level) -> None:
    """Several extents, each of another kind, ZERO and read-only ones among them: what QEMU would drop."""
    level.made.by_qemu = level.made.by_libvmdk = False
    lines: list[str] = []
    at = 0
    while at < level.size:
        sectors = min((level.size - at) // SECTOR, level.rng.choice([1, 100, 999, 4000, 70000]))
        part = _Level(
            level.folder, level.rng, f"{level.name[:-5]}-s{len(lines):03}.vmdk", level.below, sectors * SECTOR,
            level.disk[at : at + sectors * SECTOR], level.parent_end, level.made,
        )  # fmt: skip
        lines.append(_part(part, sectors))
        level.put(at, bytes(part.disk))
        at += sectors * SECTOR
    vmdk.write(level.folder, level.name, _text(level, "custom", *lines))


def _part(part: _Level, sectors: int) -> str:
    access, grain = part.rng.choice(["RW", "RDONLY"]), part.rng.choice([1, 8, 128])
    match part.rng.choice(["zero", "flat", "sparse", "cowd", "sesparse"]):
        case "zero":
            part.put(0, bytes(part.size))
            return f"{access} {sectors} ZERO"
        case "flat":
            before = part.rng.choice([0, 5])
            part.put(0, vmdk.grain_of(part.rng.getrandbits(60), sectors))
            vmdk.write(part.folder, part.name, bytes(before * SECTOR) + part.disk)
            return f'{access} {sectors} FLAT "{part.name}" {before}'
        case "sparse":
            content = vmdk.hosted(sectors, _grains(part, grain, ["data", "zero"]), grain=grain)  # type: ignore[arg-type] # kinds are words
            stated = "SPARSE"
        case "cowd":
            content = vmdk.cowd(sectors, _grains(part, grain, ["data"]), grain=grain)  # type: ignore[arg-type] # data alone
            stated = "VMFSSPARSE"
        case _:
            content = vmdk.sesparse(sectors, _grains(part, 8, ["data", "zero", "unmapped"]))  # type: ignore[arg-type] # kinds are words
            stated = "SESPARSE"
    vmdk.write(part.folder, part.name, content)
    return f'{access} {sectors} {stated} "{part.name}"'


_Kind = Callable[[_Level], None]
_CHILDREN: list[_Kind] = [_qemu_sparse, _qemu_sparse, _qemu_stream, _fattools, _hosted, _cowd, _sesparse, _mixed]
_BASES: list[_Kind] = [*_CHILDREN, _qemu_flat, _qemu_flat]
