"""The section `load`: 200 readers on 24 files of one mount."""

import errno
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import vdifs
from tests.mount.images import raw_based, week
from tests.qemu import oracle
from tortures import judge
from tortures.crowd import Crowd, Going, Latencies
from tortures.mounting import BrokenError, Mount, eventually, mounted
from tortures.tally import Kind
from tortures.task import Task

__all__ = ["File", "Seen", "load", "read_some"]

READERS = 200
_CHAINS = 6
_KIB, _MIB = 1 << 10, 1 << 20
_ALLOWED = 64 * _MIB
_SLACK = 3


@dataclass(frozen=True, slots=True)
class File:
    """A file of the mount, and one with the bytes it must have."""

    path: Path
    wanted: Path


@dataclass(slots=True)
class Seen:
    """What one reader saw."""

    reads: int = 0
    small: Latencies = field(default_factory=Latencies)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def load(task: Task) -> None:
    """Read at random for a while; then see what the daemon still holds."""
    source, wanted = task.folder / "src", task.folder / "wanted"
    names = prepare(source, wanted)
    with mounted(task, source) as mount:
        files = [File(mount.path / name, wanted / str(number)) for number, name in enumerate(names)]
        for file in files:
            file.path.read_bytes()
        time.sleep(12)  # threads that have nothing to do end after ten seconds
        before = mount.descriptors(), mount.threads()
        idle = mount.memory()
        with Crowd(READERS, partial(_reader, task.seed, files)) as readers:
            while task.going():
                task.tally.most("most memory in MiB", (mount.memory() - idle) / _MIB)
                time.sleep(0.5)
            results, silent = readers.results(60)
        _conclude(task, results, silent)
        _look_at_daemon(task, mount, before, len(files))


def prepare(source: Path, wanted: Path) -> list[str]:
    """Make 20 images in six folders; return the names of 24 files of a mount, whose bytes are written to `wanted`."""
    wanted.mkdir()
    names = []
    for number in range(_CHAINS):
        folder = source / f"f{number}"
        week(folder)
        if number == 0:
            raw_based(folder)
        compress(folder / "monday.qcow2", folder / "packed.qcow2", ["zlib", "zstd"][number % 2])
        at = folder.name
        names += [f"raw/{at}/tuesday.qcow2.raw", f"full/{at}/tuesday.qcow2", f"raw/{at}/packed.qcow2.raw"]
        names.append(f"delta/{at}/base.qcow2/{at}/monday.qcow2" if number else f"raw/{at}/x.raw.raw")
    for number, name in enumerate(names):
        _write_wanted(source, name, wanted / str(number))
    return names


def compress(image: Path, output: Path, method: str) -> None:
    """Write the same disk in compressed clusters."""
    options = ["-o", f"compression_type={method}"]
    oracle.qemu_img("convert", "-c", "-f", "qcow2", "-O", "qcow2", *options, image, output)


def _write_wanted(source: Path, name: str, output: Path) -> None:
    """Write what a file of the mount must hold: QEMU's bytes, or synthetic ones that QEMU finds sound and the same."""
    view, _, path = name.partition("/")
    if view == "raw":
        image = source / path.removesuffix(".raw")
        oracle.materialize(image, output, format="raw" if image.suffix == ".raw" else "qcow2")
        return
    folder = source / Path(path).parts[0]
    image, base = folder / Path(path).name, folder / "base.qcow2" if view == "delta" else None
    with vdifs.open(image, base=base) as opened:
        output.write_bytes(b"".join(opened.stream()))
    proof = output
    if base is not None:
        proof = output.with_suffix(".proof")
        with vdifs.open(image, base=base, backing_name=str(base)) as opened:
            proof.write_bytes(b"".join(opened.stream()))
    wrong = judge.check(proof)
    oracle.compare(proof, image)
    if wrong is not None:
        raise BrokenError(f"{name}: {wrong}")


def _reader(seed: int, files: Sequence[File], number: int, going: Going) -> Seen:
    seen, rng = Seen(), Random(seed * 1000 + number)
    contents = []
    for file in files:
        with file.wanted.open("rb") as opened:
            contents.append(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ))
    while going() and len(seen.wrong) + len(seen.errors) < 5:
        which = rng.randrange(len(files))
        try:
            read_some(rng, files[which].path, contents[which], seen)
        except OSError as error:
            seen.errors.append(f"{files[which].path.name}: {errno.errorcode[error.errno or 0]}")
    return seen


def read_some(rng: Random, path: Path, wanted: mmap.mmap, seen: Seen, times: int = 32) -> None:
    """Open a file and read from it at random: mostly 4 KiB past the page cache, some through it, some long."""
    direct = rng.random() < 0.7
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    buffer = mmap.mmap(-1, 128 * _KIB)
    try:
        size = os.fstat(descriptor).st_size
        if size != len(wanted):
            seen.wrong.append(f"{path.name}: {size} bytes long instead of {len(wanted)}")
        for _ in range(times):
            length = 4 * _KIB if rng.random() < 0.9 else 128 * _KIB
            offset = rng.randrange(size) & ~4095 if direct else rng.randrange(size)
            began = time.perf_counter()
            count = os.preadv(descriptor, [memoryview(buffer)[:length]], offset)
            if length == 4 * _KIB and direct:
                seen.small.add(time.perf_counter() - began)
            seen.reads += 1
            if buffer[:count] != wanted[offset : offset + length]:
                seen.wrong.append(f"{path.name}: {count} bytes at {offset:#x} of {length}")
                return
    finally:
        os.close(descriptor)


def _conclude(task: Task, results: Sequence[Seen], silent: int) -> None:
    """Add up what the readers saw."""
    latencies = Latencies()
    for seen in results:
        latencies.merge(seen.small)
        for what in seen.wrong:
            task.found(Kind.WRONG, what)
        for what in seen.errors:
            task.found(Kind.BROKEN, f"an error: {what}")
    if silent:
        task.found(Kind.HANG, f"{silent} of {READERS} readers gave no answer")
    task.tally.tried = sum(seen.reads for seen in results)
    task.tally.facts["readers"] = READERS
    task.tally.facts["p99 of 4 KiB in ms"] = round(latencies.percentile(0.99) * 1000, 2)
    task.tally.facts["median of 4 KiB in ms"] = round(latencies.percentile(0.5) * 1000, 2)


def _look_at_daemon(task: Task, mount: Mount, before: tuple[int, int], files: int) -> None:
    grown = task.tally.facts.get("most memory in MiB", 0) * _MIB
    if grown > _ALLOWED + 128 * files:
        task.found(Kind.MEMORY, f"the daemon grew by {grown / _MIB:.0f} MiB")
    try:
        eventually(lambda: mount.threads() <= before[1] + _SLACK, 30, "threads back to the start")
        eventually(lambda: mount.descriptors() <= before[0] + _SLACK, 30, "descriptors back to the start")
    except BrokenError as error:
        now = mount.descriptors(), mount.threads()
        task.found(Kind.BROKEN, f"{error}: descriptors and threads {before} before, {now} after")
