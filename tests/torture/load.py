"""The section `load`: 200 readers on 24 files of one mount."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

import vdifs
from tests.mount.images import raw_based, week
from tests.support import oracle
from tests.torture import verdicts as judge
from tests.torture.many_readers import Crowd, Going, Latencies
from tests.torture.mounting import BrokenError, Mount, eventually, mounted
from tests.torture.reading import File, Seen, mapped, read_some
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["compress", "load"]

READERS = 200
_CHAINS = 6
_MIB = 1 << 20
_ALLOWED = 64 * _MIB
_SLACK = 3
_PAUSE_S = 0.04
"""Between two reads of one reader: or readers would wait for the processors that they all share, not for answers."""


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
            task.begin()
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
    seen, rng, contents = Seen(), Random(seed * 1000 + number), mapped(files)
    while going() and not seen.is_enough:
        which = rng.randrange(len(files))
        read_some(rng, files[which].path, contents[which], seen, times=32, pause=_PAUSE_S)
    return seen


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
