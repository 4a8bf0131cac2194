"""The chains that the mount's tests serve, small, with data that say where they belong; and what damages them."""

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.builder import make, write_stamped
from tests.support.image_file import Image
from tests.support.stamps import stamped
from tests.support.units import MIB

SIZE = 16 * MIB


def week(folder: Path, size: int = SIZE) -> list[Path]:
    """Make base <- monday <- tuesday, of three cluster sizes, and return them in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in _week(size).items():
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    return paths


@cache
def _week(size: int) -> dict[str, bytes]:
    """Return what the files hold: QEMU makes them once, which takes longer than a mount."""
    with TemporaryDirectory() as scratch:
        base, monday, tuesday = (Path(scratch, f"{name}.qcow2") for name in ("base", "monday", "tuesday"))
        make(base, size)
        write_stamped(base, {0: 3 * MIB, 8 * MIB: MIB}, 1)
        make(monday, size, backing=("base.qcow2", "qcow2"), cluster_size=4096)
        write_stamped(monday, {MIB + 512: MIB, 12 * MIB: 5000 * 512}, 2)
        make(tuesday, size, backing=("monday.qcow2", "qcow2"), cluster_size=512 << 10)
        write_stamped(tuesday, {9 * MIB: 512}, 3, commands=["write -z 0 1M", "discard 8M 512k"])
        return {path.name: path.read_bytes() for path in (base, monday, tuesday)}


def raw_based(folder: Path) -> tuple[Path, Path]:
    """Make x.raw, of odd length and mostly holes, and top.qcow2 on it."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, top = folder / "x.raw", folder / "top.qcow2"
    with raw.open("wb") as file:
        file.write(stamped(0, MIB, 1))
        file.truncate(SIZE + 1000)
    make(top, SIZE, backing=("x.raw", "raw"))
    write_stamped(top, {2 * MIB: MIB}, 2)
    return raw, top


def damage_header(image: Path) -> None:
    """Make the header claim cluster_bits 40."""
    Image(image).set(cluster_bits=40)


def damage_l2(image: Path) -> None:
    """Have the first L1 entry point beyond the end of the file, which shows only when the image is resolved."""
    Image(image).set_l1(0, 1 << 40)


def encrypted(image: Path) -> None:
    """Make the header say that the data are encrypted."""
    Image(image).set(crypt_method=1)


def replace_with(image: Path, other: Path) -> None:
    """Rename `other` over `image`."""
    os.replace(other, image)
