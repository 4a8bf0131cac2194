"""Real images for the mount's tests, made by QEMU's tools. Small, with data that say where they belong."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import oracle
from tests.support.stamps import stamped

MIB = 1 << 20
SIZE = 16 * MIB


def write(image: Path, writes: dict[int, int], generation: int, *, commands: Sequence[str] = ()) -> None:
    """Write stamped data to an image: guest offset -> length."""
    with TemporaryDirectory() as scratch:
        words = []
        for number, (offset, length) in enumerate(writes.items()):
            data = Path(scratch, str(number))
            data.write_bytes(stamped(offset, length, generation))
            words.append(f"write -s {data} {offset} {length}")
        oracle.qemu_io(image, [*words, *commands])


def week(folder: Path, size: int = SIZE) -> list[Path]:
    """Make base <- monday <- tuesday, of three cluster sizes, and return them in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    base, monday, tuesday = (folder / f"{name}.qcow2" for name in ("base", "monday", "tuesday"))
    oracle.create(base, size)
    write(base, {0: 3 * MIB, 8 * MIB: MIB}, 1)
    oracle.create(monday, size, options={"cluster_size": 4096}, backing=("base.qcow2", "qcow2"), cwd=folder)
    write(monday, {MIB + 512: MIB, 12 * MIB: 5000 * 512}, 2)
    oracle.create(tuesday, size, options={"cluster_size": 512 << 10}, backing=("monday.qcow2", "qcow2"), cwd=folder)
    write(tuesday, {9 * MIB: 512}, 3, commands=["write -z 0 1M", "discard 8M 512k"])
    return [base, monday, tuesday]


def raw_based(folder: Path) -> tuple[Path, Path]:
    """Make x.raw, of odd length and mostly holes, and top.qcow2 on it."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, top = folder / "x.raw", folder / "top.qcow2"
    with raw.open("wb") as file:
        file.write(stamped(0, MIB, 1))
        file.truncate(SIZE + 1000)
    oracle.create(top, SIZE, backing=("x.raw", "raw"), cwd=folder)
    write(top, {2 * MIB: MIB}, 2)
    return raw, top


def damage_header(image: Path) -> None:
    """Make the header claim cluster_bits 40."""
    with image.open("r+b") as file:
        file.seek(20)
        file.write((40).to_bytes(4, "big"))


def damage_l2(image: Path) -> None:
    """Have the first L1 entry point beyond the end of the file, which shows only when the image is resolved."""
    with image.open("r+b") as file:
        file.seek(40)
        l1 = int.from_bytes(file.read(8), "big")
        file.seek(l1)
        file.write((1 << 40).to_bytes(8, "big"))


def encrypted(image: Path) -> None:
    """Make the header say that the data are encrypted."""
    with image.open("r+b") as file:
        file.seek(32)
        file.write((1).to_bytes(4, "big"))


def replace_with(image: Path, other: Path) -> None:
    """Rename `other` over `image`."""
    os.replace(other, image)
