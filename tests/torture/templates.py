"""Sound chains that fuzzing starts from, made by QEMU's tools; each from its number alone."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support import oracle
from tests.support.builder import make
from tests.support.chains import Shape, make_chain
from tests.support.units import KIB, MIB
from tests.torture.mutations import Files

__all__ = ["COUNT", "template"]

_SHAPE = Shape(depth=range(1, 5), largest_disk=4 * MIB, absolute_names=False, compressed=True, extended_l2=True)
_MOST_BYTES = 24 * MIB


def template(folder: Path, number: int) -> Files:
    """Return the files of a chain by name, top first; they are made in `folder` when first asked for."""
    made = folder / str(number)
    if not made.exists():
        with (folder / f"{number}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                _make(made, number)
    order = (made / "order").read_text().splitlines()
    return {name: bytearray((made / "files" / name).read_bytes()) for name in order}


def _make(made: Path, number: int) -> None:
    fresh = made.with_name(f"{number}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    if number < len(_SPECIAL):
        (fresh / "files").mkdir()
        order = _SPECIAL[number](fresh / "files")
    else:
        order = _random(fresh, number)
    (fresh / "order").write_text("\n".join(order))
    fresh.rename(made)


def _random(fresh: Path, number: int) -> list[str]:
    for attempt in range(100):
        try:
            chain = make_chain(fresh / "files", number + 1000 * attempt, _SHAPE)
        except oracle.OracleError:  # a draw that this version of QEMU does not make
            shutil.rmtree(fresh / "files")
        else:
            files = [image.path for image in chain.images]
            if files[0].stat().st_size and sum(file.stat().st_size for file in files) < _MOST_BYTES:
                shutil.rmtree(fresh / "files.scratch", ignore_errors=True)
                return [str(file.relative_to(fresh / "files")) for file in files]
            shutil.rmtree(fresh / "files")
        shutil.rmtree(fresh / "files.scratch", ignore_errors=True)
    raise oracle.OracleError(f"template {number}: no chain of a fitting size was drawn")


def _snapshots(folder: Path) -> list[str]:
    image = folder / "image.qcow2"
    make(image, MIB, cluster_size=4 * KIB)
    for name in "first", "second", "third":
        oracle.qemu_io(image, [f"write -P {len(name)} {len(name) * 16}k 100k"])
        oracle.qemu_img("snapshot", "-c", name, image)
    oracle.qemu_io(image, ["write -z 100k 50k", "write -P 9 300k 10k"])
    return ["image.qcow2"]


def _snapshots_on_base(folder: Path) -> list[str]:
    make(folder / "base.qcow2", MIB, "write -P 1 0 500k")
    make(folder / "top.qcow2", 2 * MIB, "write -P 2 100k 9k", backing=("base.qcow2", "qcow2"), cluster_size=512)
    oracle.qemu_img("snapshot", "-c", "one", folder / "top.qcow2")
    oracle.qemu_io(folder / "top.qcow2", ["write -P 3 105k 9k"])
    return ["top.qcow2", "base.qcow2"]


def _bitmaps(folder: Path) -> list[str]:
    image = folder / "image.qcow2"
    make(image, MIB, cluster_size=64 * KIB)
    oracle.qemu_img("bitmap", "--add", image, "one")
    oracle.qemu_img("bitmap", "--add", "-g", "4096", image, "two")
    oracle.qemu_io(image, ["write -P 1 0 300k", "discard 64k 64k"])
    return ["image.qcow2"]


def _data_file(folder: Path, *, raw: bool) -> list[str]:
    flag = "on" if raw else "off"
    make(folder / "image.qcow2", MIB, data_file="disk.data", data_file_raw=flag, cluster_size=4 * KIB)
    writes = ["write -P 1 0 300k", "write -z 100k 8k", "write -P 2 900k 20k"]
    oracle.qemu_io("image.qcow2", writes, cwd=folder)
    return ["image.qcow2", "disk.data"]


def _packed(folder: Path, *, method: str, cluster: int, extended: bool = False) -> list[str]:
    """Clusters of every kind that compresses."""
    disk = folder / "disk"
    with disk.open("wb") as file:
        for number in range(2 * MIB // (16 * KIB)):
            block = b"%06d\n" % number * (16 * KIB // 7 + 1)
            file.write(block[: 16 * KIB] if number % 5 else bytes(16 * KIB))
    options = f"compression_type={method},cluster_size={cluster}" + (",extended_l2=on" if extended else "")
    image = folder / "image.qcow2"
    oracle.qemu_img("convert", "-c", "-m", "1", "-f", "raw", "-O", "qcow2", "-o", options, disk, image)
    os.unlink(disk)
    oracle.qemu_io(image, ["write -P 7 100k 70k", "write -z 300k 90k"])
    return ["image.qcow2"]


_SPECIAL: list[Callable[[Path], list[str]]] = [
    _snapshots,
    _snapshots_on_base,
    _bitmaps,
    lambda folder: _data_file(folder, raw=False),
    lambda folder: _data_file(folder, raw=True),
    lambda folder: _packed(folder, method="zlib", cluster=64 * KIB),
    lambda folder: _packed(folder, method="zlib", cluster=4 * KIB),
    lambda folder: _packed(folder, method="zlib", cluster=512),
    lambda folder: _packed(folder, method="zstd", cluster=64 * KIB),
    lambda folder: _packed(folder, method="zstd", cluster=2 * MIB),
    lambda folder: _packed(folder, method="zstd", cluster=16 * KIB, extended=True),
]
COUNT = 48
