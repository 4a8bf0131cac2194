"""The images that are measured, made by qemu-img and qemu-io when first asked for."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.processes import run
from benchmarks.sizes import GIB, KIB, MIB, TIB, Sizes

__all__ = ["GUEST_FILE", "Chain", "Chains", "warm"]

GUEST_FILE = "file"
"""The one file within the file system of the chain "guest"."""

_CLUSTER = 64 * KIB
_BLOCK = 64 * MIB
_TOP = "x.qcow2"


@dataclass(frozen=True, slots=True)
class Chain:
    """A folder that holds one chain. data: bytes the flattened disk holds."""

    folder: Path
    data: int

    @property
    def top(self) -> Path:
        """The active layer."""
        return self.folder / _TOP

    @property
    def files(self) -> list[Path]:
        """All its files."""
        return sorted(self.folder.iterdir())

    def warm(self) -> None:
        """Have all its files in the page cache."""
        for file in self.files:
            warm(file)


def warm(file: Path) -> None:
    """Read what a file holds; its holes are passed over, a preallocated image has a TiB of them."""
    buffer = bytearray(MIB)
    with open(file, "rb", buffering=0) as opened:
        for start, end in _runs_of_data(opened.fileno()):
            opened.seek(start)
            while opened.tell() < end and opened.readinto(buffer):
                pass


def _runs_of_data(fd: int) -> Iterator[tuple[int, int]]:
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to build a chain in an empty folder. room: bytes it takes while that is done."""

    build: Callable[[Path], None]
    data: int
    room: int


class Chains:
    """All chains, by name: built when asked for, dropped when the last row that needs them is done."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self._plans = dict(_plans(sizes))

    def __getitem__(self, name: str) -> Chain:
        plan = self._plans[name]
        chain = Chain(self._folder / name, plan.data)
        if not chain.top.exists():
            shutil.rmtree(chain.folder, ignore_errors=True)
            chain.folder.mkdir(parents=True)
            plan.build(chain.folder)
            run("sync", "-f", chain.folder)
        return chain

    def data(self, name: str) -> int:
        """Return how many bytes the flattened disk of a chain holds."""
        return self._plans[name].data

    def room(self, name: str) -> int:
        """Return how many bytes of disk a chain takes."""
        return self._plans[name].room

    def drop(self, name: str) -> None:
        """Delete a chain, if it was built."""
        shutil.rmtree(self._folder / name, ignore_errors=True)


def _plans(sizes: Sizes) -> Iterator[tuple[str, _Plan]]:
    data = sizes.data
    yield "shallow", _Plan(partial(_shallow, data), data, data * 5 // 4)
    yield "scattered", _Plan(partial(_scattered, data, 8, _CLUSTER), data, data * 2)
    yield "six", _Plan(partial(_scattered, data, 6, _CLUSTER), data, data * 2)
    yield "guest", _Plan(partial(_guest, data, 6), data, data * 4)
    yield "holes", _Plan(partial(_holes, sizes.sparse, sizes.sparse_data), sizes.sparse_data, sizes.sparse_data * 2)
    yield "scattered-16k", _Plan(partial(_scattered, data, 8, 16 * KIB), data, data * 2)
    for method in "deflate", "zstd":
        yield method, _Plan(partial(_compressed, data, method.replace("deflate", "zlib")), data, data * 2)
    yield "system", _Plan(partial(_system, data), data, data * 4)
    yield "preallocated", _Plan(partial(_preallocated, sizes.preallocated), 0, sizes.preallocated >> 12)
    yield "sparse", _Plan(partial(_sparse, 64 * TIB), 64 * _CLUSTER, 64 * MIB)
    yield "mixed", _Plan(partial(_mixed, sizes.mixed), 640 * _CLUSTER, 640 * MIB)
    for size in sizes.growing:
        yield f"size-{size}", _Plan(partial(_sequential, size), size, size)
    for depth in sizes.depths:
        yield f"depth-{depth}", _Plan(partial(_dealt, sizes.depth_data, depth), sizes.depth_data, sizes.depth_data)
    yield "many", _Plan(partial(_many, sizes.images), sizes.images * _CLUSTER, sizes.images * 128 * KIB)


def _create(image: Path, size: int, backing: Path | None = None, **options: str) -> None:
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    beneath = [] if backing is None else ["-b", backing.name, "-F", "qcow2"]
    run("qemu-img", "create", "-q", "-f", "qcow2", *settings, *beneath, image, str(size))


def _write(image: Path, commands: Iterator[str]) -> None:
    run("qemu-io", "-t", "unsafe", "-f", "qcow2", image, stdin="\n".join(commands))


def _fill(image: Path, start: int, end: int) -> None:
    """Write noise from one guest offset to another, in guest order."""
    noise = image.parent / "noise"
    noise.write_bytes(random.Random(start).randbytes(4 * MIB))
    blocks = range(start, end, _BLOCK)
    _write(image, (f"write -q -s {noise} {at} {min(_BLOCK, end - at)}" for at in blocks))
    noise.unlink()


def _overwrite(image: Path, clusters: list[int], pattern: int, size: int = _CLUSTER) -> None:
    _write(image, (f"write -q -P {pattern % 255 + 1} {at * size} {size}" for at in clusters))


def _sequential(size: int, folder: Path) -> None:
    """One image, written from start to end."""
    _create(folder / _TOP, size)
    _fill(folder / _TOP, 0, size)


def _shallow(size: int, folder: Path) -> None:
    """Two images: a full disk, and an overlay with an eighth of it in one run."""
    base = folder / "base.qcow2"
    _create(base, size)
    _fill(base, 0, size)
    _create(folder / _TOP, size, base)
    _fill(folder / _TOP, size // 4, size // 4 + size // 8)


def _scattered(size: int, depth: int, cluster: int, folder: Path) -> None:
    """A full disk, and on it overlays that each hold an eighth of its clusters, drawn and written at random."""
    count = size // cluster
    below = folder / "base.qcow2"
    _create(below, size, cluster_size=str(cluster))
    _fill(below, 0, size)
    for number in range(1, depth):
        image = folder / (_TOP if number == depth - 1 else f"{number}.qcow2")
        _create(image, size, below, cluster_size=str(cluster))
        _overwrite(image, random.Random(number).sample(range(count), count // 8), number, cluster)
        below = image


def _guest(size: int, depth: int, folder: Path) -> None:
    """A disk with an ext4 in it that holds one large file, and on it overlays over an eighth of that file each."""
    content, disk, below = folder / GUEST_FILE, folder / "disk.raw", folder / "base.qcow2"
    fill = b"\xee" * MIB
    with open(content, "wb") as file:
        file.writelines(fill for _ in range(size // MIB * 3 // 4))
    with open(disk, "wb") as file:
        file.truncate(size)
    inside = folder / "inside"
    inside.mkdir()
    content.rename(inside / GUEST_FILE)
    run("mkfs.ext4", "-q", "-F", "-d", inside, disk)
    shutil.rmtree(inside)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, below)
    of_the_file = _filled_with(disk, fill[:_CLUSTER])
    disk.unlink()
    for number in range(1, depth):
        image = folder / (_TOP if number == depth - 1 else f"{number}.qcow2")
        _create(image, size, below)
        _overwrite(image, random.Random(number).sample(of_the_file, len(of_the_file) // 8), number)
        below = image


def _filled_with(disk: Path, content: bytes) -> list[int]:
    """Return the clusters of a raw disk that hold nothing but `content`."""
    with open(disk, "rb") as file:
        clusters = iter(partial(file.read, _CLUSTER), b"")
        return [number for number, cluster in enumerate(clusters) if cluster == content]


def _holes(size: int, data: int, folder: Path) -> None:
    """Two images of a disk that is mostly holes: each holds half of its data, a MiB here and there."""
    base = folder / "base.qcow2"
    places = [number * size // (data // MIB) for number in range(data // MIB)]
    for image, beneath, number in (base, None, 0), (folder / _TOP, base, 1):
        _create(image, size, beneath)
        _write(image, (f"write -q -P {at % 251 + 1} {at // MIB * MIB} 1M" for at in places[number::2]))


def _dealt(size: int, depth: int, folder: Path) -> None:
    """A chain whose clusters are dealt to its images at random: each holds the same share, no two the same cluster."""
    clusters = list(range(size // _CLUSTER))
    random.Random(depth).shuffle(clusters)
    below = None
    for number in range(depth):
        image = folder / (_TOP if number == depth - 1 else f"{number}.qcow2")
        _create(image, size, below)
        _overwrite(image, sorted(clusters[number::depth]), number)
        below = image


def _compressed(size: int, method: str, folder: Path) -> None:
    """Two images of compressed clusters: a full disk of words, and an overlay with an eighth of it."""
    words = _words()
    disk = folder / "disk.raw"
    with open(disk, "wb") as file:
        for number in range(size // len(words)):
            at = number * 1_000_003 % len(words)
            file.write(words[at:] + words[:at])
    base = folder / "base.qcow2"
    run(
        "qemu-img",
        "convert",
        "-c",
        "-m",
        "2",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-o",
        f"compression_type={method}",
        disk,
        base,
    )
    disk.write_bytes(words[:_CLUSTER][::-1])
    _create(folder / _TOP, size, base, compression_type=method)
    clusters = range(size // 4, size // 4 + size // 8, _CLUSTER)
    _write(folder / _TOP, (f"write -q -c -s {disk} {at} {_CLUSTER}" for at in clusters))
    disk.unlink()


def _system(size: int, folder: Path) -> None:
    """A disk with an ext4 in it that holds files of this machine's /usr, up to so many bytes."""
    tree, disk = folder / "tree", folder / "disk.raw"
    tree.mkdir()
    left = size
    for number, (path, length) in enumerate(_files_of(Path("/usr"))):
        if length <= left:
            shutil.copyfile(path, tree / str(number))
            left -= length
    with open(disk, "wb") as file:
        file.truncate(size * 5 // 4)
    run("mkfs.ext4", "-q", "-F", "-d", tree, disk)
    shutil.rmtree(tree)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, folder / _TOP)
    disk.unlink()


def _files_of(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files in a folder that can be read, in the order of their names, with their lengths."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
            yield path, path.stat().st_size


def _words() -> bytes:
    """Return 64 MiB that compress about as programs and documents do: words, a few of them often."""
    draw = np.random.default_rng(7)
    vocabulary = draw.integers(97, 123, size=(4096, 8), dtype=np.uint8)
    vocabulary[:, 7] = 32
    picked = np.minimum(draw.zipf(1.2, size=_BLOCK // 8), len(vocabulary)) - 1
    return bytes(vocabulary[picked])


def _preallocated(size: int, folder: Path) -> None:
    """Every cluster has its place in the file, and the file a hole there."""
    _create(folder / _TOP, size, preallocation="metadata")


def _mixed(size: int, folder: Path) -> None:
    """An enormous overlay in clusters of 2 MiB, over all of it, on a disk of 64 GiB in subclusters of 512 bytes."""
    base = folder / "base.qcow2"
    _create(base, 64 << 30, cluster_size="16k", extended_l2="on")
    _write(base, (f"write -q {number * 16}M 512" for number in range(512)))
    _create(folder / _TOP, size, base, cluster_size="2M")
    _write(folder / _TOP, (f"write -q {number * 512 + 7}G 4k" for number in range(size // (512 * GIB))))


def _sparse(size: int, folder: Path) -> None:
    """An enormous disk with a cluster here and there."""
    _create(folder / _TOP, size)
    _overwrite(folder / _TOP, [number * (size // _CLUSTER // 64) for number in range(64)], 1)


def _many(count: int, folder: Path) -> None:
    """Images of 1 MiB that hold a cluster each."""
    _create(folder / _TOP, MIB)
    _overwrite(folder / _TOP, [3], 1)
    for number in range(1, count):
        shutil.copy(folder / _TOP, folder / f"{number:05}.qcow2")
