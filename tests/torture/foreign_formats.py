"""What fuzzing needs of a format other than qcow2: who makes a chain, where its numbers are, how it is read simply.

A further format is one `Foreign` more: its builder and its simple reader are in tests/support/.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal
from uuid import UUID

from tests.support import vdi, vhd, vhdx, vhdx_plain, vmdk_plain
from tests.support.vdi import Vdi
from tests.support.vhd import Vhd
from tests.support.vhdx import Draft
from tests.support.written_disks import writes, written
from tests.torture.foreign_vmdk import make_vmdks, rewrite, vmdk_numbers

__all__ = ["FOREIGN", "Foreign", "Places"]

KIB, MIB, SECTOR = 1 << 10, 1 << 20, 512
Places = list[tuple[int, int]]
"""(offset in the file, length) of numbers."""
_MOST_DEPTH = 3
_ENTRIES = 16


@dataclass(frozen=True, slots=True)
class Foreign:
    """A format, by the name that QEMU gives it.

    make: writes a small chain to a folder; returns its files, top first. numbers: where those of its structures are in
    a file, perhaps beyond its end. order: theirs. mend: makes checksums right, None where there are none. size: of the
    disk of an image. read: what [start, end) of the disk of a chain is, files by name, top first. rewrite: damages text
    in a file, and tells how; nothing where there is none.
    """

    name: str
    make: Callable[[Random, Path], list[Path]]
    numbers: Callable[[bytes], Places]
    order: Literal["little", "big"]
    mend: Callable[[bytearray], None] | None
    size: Callable[[bytes], int]
    read: Callable[[Mapping[str, bytes], int, int], bytes]
    rewrite: Callable[[Random, bytearray], str] | None = None


def _uuid(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128))


def _make_vhds(rng: Random, folder: Path) -> list[Path]:
    size, parent = rng.randint(1, 400) * SECTOR, None
    paths = list[Path]()
    for level in range(rng.randint(1, _MOST_DEPTH)):
        path, below, uuid = folder / f"{level}.vhd", f"{level - 1}.vhd", _uuid(rng)
        by_tapdisk = rng.random() < 0.3
        if not level and rng.random() < 0.2:
            image = vhd.fixed(rng.randbytes(size), uuid=uuid.bytes)
            path.write_bytes(image[: rng.choice([None, -1])])
        elif not level and rng.random() < 0.1:
            path, uuid = folder / "0.raw", UUID(int=0)
            path.write_bytes(rng.randbytes(size))
        else:
            made = Vhd(
                size,
                rng.choice([4, 16, 64]) * KIB,
                parent,
                uuid,
                below if level else "",
                [(b"W2ru", f".\\{below}".encode("utf-16-le")), (b"MacX", f"file://./{below}".encode())]
                if level
                else [],
                batmap=vhd.batmap_header() if by_tapdisk else b"",
                footer_fields={"creator": b"tap\0"} if by_tapdisk else {},
            )
            if parent == UUID(int=0):
                made.footer_fields["creator"] = b"tap\0"
                made.locators = [(b"W2ru", ".\\0.raw".encode("utf-16-le"))]
            for each in writes(rng, size, most=4):
                made.put(each.offset, each.data)
            made.write(path)
        paths.insert(0, path)
        parent = uuid
    if paths[0].suffix == ".raw":  # a raw image alone is no VHD
        return _make_vhds(rng, folder)
    return paths


def _places(start: int, fields: Sequence[tuple[int, int]]) -> Places:
    return [(start + at, min(length, 16)) for at, length in fields]


def _vhd_numbers(image: bytes) -> Places:
    footer, header = vhd.offsets(">8sIIQI4sI4sQQHBBII16sBB"), vhd.offsets(">8sQQIIII16sII512s")
    locators = [(576 + 24 * number + at, length) for number in range(2) for at, length in ((0, 4), (8, 4), (16, 8))]
    table = [(1536 + 4 * number, 4) for number in range(_ENTRIES)]
    return [*_places(0, footer), *_places(len(image) - SECTOR, footer), *_places(512, [*header, *locators]), *table]


def _mend_vhd(image: bytearray) -> None:
    for start, length, at, mark in (
        (0, SECTOR, 64, b"conectix"),
        (len(image) - SECTOR, SECTOR, 64, b"conectix"),
        (512, 1024, 36, b"cxsparse"),
    ):
        if start >= 0 and image[start : start + 8] == mark and start + length <= len(image):
            image[start : start + length] = vhd.signed(bytes(image[start : start + length]), at)


def _make_vdis(rng: Random, folder: Path) -> list[Path]:
    size, below, parent = rng.randint(1, 1400) * SECTOR, b"", None
    paths = list[Path]()
    for level in range(rng.randint(1, _MOST_DEPTH)):
        named = vdi.Name(_uuid(rng), _uuid(rng))
        extra = rng.choice([0, 0, 512, 256])
        made = Vdi(size, 128 * KIB, parent, named, extra=extra, static=not level and rng.random() < 0.3)
        for each in writes(rng, size, most=2):
            made.put(each.offset, each.data, below)
            below = written(below, size, [each])
        made.zero = {2} - {*made.blocks}
        made.order = rng.sample([*made.blocks, None], len(made.blocks) + 1)
        below = vdi.plain_read([path.read_bytes() for path in [made.write(folder / f"{level}.vdi"), *paths]], 0, size)
        paths.insert(0, folder / f"{level}.vdi")
        parent = named if rng.random() < 0.8 else vdi.Name(named.uuid)
    return paths


def _vdi_numbers(_image: bytes) -> Places:
    table = [(SECTOR + 4 * number, 4) for number in range(_ENTRIES)]
    return [*_places(0, list(vdi.offsets().values())), *table, *table]


def _make_vhdxs(rng: Random, folder: Path) -> list[Path]:
    """Return files of 4 MiB and more: blocks have at least 1 MiB."""
    sector = rng.choice([512, 512, 4096])
    size, parent = rng.randint(1, 2 * MIB // sector) * sector, None
    paths = list[Path]()
    for level in range(rng.randint(1, _MOST_DEPTH)):
        made = Draft(size, MIB, sector, parent, number=rng.getrandbits(60))
        for each in writes(rng, size, unit=sector, most=2):
            made.write(each.offset, each.data)
        if rng.random() < 0.3:
            made.states.setdefault(made.blocks - 1, rng.choice([1, 2, 3]))
        if rng.random() < 0.3:
            _leave_unclean(rng, made)
        paths.insert(0, made.save(folder / f"{level}.vhdx"))
        parent = vhdx.linked(made.guid, paths[0].name)
    return paths


def _leave_unclean(rng: Random, made: Draft) -> None:
    """Have the log hold the beginning of the BAT."""
    bat = made.bat()
    page = b"".join(bat.get(index, 0).to_bytes(8, "little") for index in range(vhdx.PAGE // 8))
    entries = [(vhdx.BAT_AT + at * vhdx.PAGE, bytes(vhdx.PAGE)) for at in range(1, 3)] + [(vhdx.BAT_AT, page)]
    first = rng.randint(1, 1 << 40)
    logged = [vhdx.LogEntry(first + at, 0, [each]).packed() for at, each in enumerate(entries)]
    made.dirty(*((at * 2 * vhdx.PAGE, each) for at, each in enumerate(logged)))
    made.patches.append((vhdx.BAT_AT, rng.randbytes(64)))


def _vhdx_numbers(_image: bytes) -> Places:
    header = [(8, 8), (16, 8), (32, 8), (40, 8), (48, 8), (64, 2), (66, 2), (68, 4), (72, 8)]
    regions = [(8, 4), *((at, 4) for at in range(16, 80, 4))]
    table = [(10, 2), *((32 + 32 * entry + at, 4) for entry in range(6) for at in (0, 16, 20, 24))]
    log = [(4, 4), (8, 4), (12, 4), (16, 8), (24, 4), (32, 8), (48, 8), (56, 8), (64, 4), (72, 8), (80, 8), (88, 8)]
    entries = [*range(6), 4096, 2**15]
    return [
        *_places(64 << 10, header),
        *_places(128 << 10, header),
        *_places(192 << 10, regions),
        *_places(256 << 10, regions),
        *_places(vhdx.METADATA_AT, table),
        *_places(vhdx.METADATA_AT + (64 << 10), [(at, 4) for at in range(0, 200, 4)]),
        *_places(vhdx.LOG_AT, [(entry * 2 * vhdx.PAGE + at, length) for entry in range(3) for at, length in log]),
        *_places(vhdx.BAT_AT, [(8 * entry, 8) for entry in entries] * 3),
    ]


def _mend_vhdx(image: bytearray) -> None:
    for start, length, mark in (
        (64 << 10, 4096, b"head"),
        (128 << 10, 4096, b"head"),
        (192 << 10, 64 << 10, b"regi"),
        (256 << 10, 64 << 10, b"regi"),
        *((vhdx.LOG_AT + entry * 2 * vhdx.PAGE, 2 * vhdx.PAGE, b"loge") for entry in range(3)),
    ):
        if image[start : start + 4] == mark and start + length <= len(image):
            image[start : start + length] = vhdx.summed(bytes(image[start : start + length]))


def _unnamed(read: Callable[[Sequence[bytes], int, int], bytes]) -> Callable[[Mapping[str, bytes], int, int], bytes]:
    """Return a reader of files by name that needs none of the names."""
    return lambda files, start, end: read([*files.values()], start, end)


FOREIGN = {
    each.name: each
    for each in (
        Foreign("vpc", _make_vhds, _vhd_numbers, "big", _mend_vhd, vhd.virtual_size, _unnamed(vhd.plain_read)),
        Foreign(
            "vhdx", _make_vhdxs, _vhdx_numbers, "little", _mend_vhdx, vhdx_plain.virtual_size,
            _unnamed(vhdx_plain.plain_read),
        ),
        Foreign(
            "vmdk", make_vmdks, vmdk_numbers, "little", None, vmdk_plain.virtual_size, vmdk_plain.plain_read,
            rewrite,
        ),
        Foreign("vdi", _make_vdis, _vdi_numbers, "little", None, vdi.virtual_size, _unnamed(vdi.plain_read)),
    )
}  # fmt: skip
