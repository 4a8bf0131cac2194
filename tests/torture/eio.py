"""The section `eio`: a source whose reads fail at random. Every fault is an EIO, and all is well when it is over."""

import errno
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from tests.mount.images import SIZE, week
from tests.support import oracle
from tests.support.builder import make, write_stamped
from tests.torture.faulty import Faulty, faulty
from tests.torture.load import compress
from tests.torture.many_readers import Crowd, Going
from tests.torture.mounting import BrokenError, eventually, mounted
from tests.torture.reading import File, Seen, mapped, read_some
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["eio", "files_of"]

_READERS = 8
_ROUND_S = 8.0
_RECOVERED_WITHIN_S = 10.0
_FAULTS = 20
"""At least, in a round: a few may all be of reads ahead, of which no reader is told."""
_FAULTS_WITHIN_S = 60.0
_PERCENT = [10, 2, 100, 40]


def eio(task: Task) -> None:
    """Rounds of faults at several rates; after each, everything is read and must be right."""
    source, backing = task.folder / "src", task.folder / "backing"
    week(source)
    _full_of_data(backing)
    with (
        faulty(backing, source / "slow", task.folder / "control") as faults,
        mounted(task, source) as mount,
    ):
        failing = files_of(task.folder, backing, mount.path / "raw/slow")
        good = files_of(task.folder, source, mount.path / "raw")
        for file in failing:
            file.path.read_bytes()
        number = 0
        while task.going():
            _round(task, faults, failing, good, _PERCENT[number % len(_PERCENT)], number)
            _recover(task, failing)
            number += 1
        task.tally.facts["faults injected"] = faults.faults
        task.tally.facts["lines in the log"] = len(mount.log.read_text().splitlines())


def _full_of_data(folder: Path) -> None:
    """Make a disk without a zero in it, an overlay of many pieces, and the same compressed."""
    folder.mkdir()
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    make(base, SIZE)
    write_stamped(base, {0: SIZE}, 1)
    make(top, SIZE, backing=("base.qcow2", "qcow2"), cluster_size=4096)
    write_stamped(top, dict.fromkeys(range(0, SIZE, 64 << 10), 8192), 2)
    compress(top, folder / "packed.qcow2", "zstd")


def files_of(folder: Path, images: Path, shown: Path) -> list[File]:
    """Return the raw files of the images in a folder, with their contents by QEMU."""
    found = []
    for image in sorted(images.glob("*.qcow2")):
        wanted = oracle.materialize(image, folder / f"wanted-{images.name}-{image.stem}")
        found.append(File(shown / f"{image.name}.raw", wanted))
    return found


def _round(
    task: Task, faults: Faulty, failing: Sequence[File], good: Sequence[File], percent: int, number: int
) -> None:
    before = faults.faults
    faults.fail(percent)
    seconds = min(_ROUND_S, max(1.0, task.left()))
    with (
        Crowd(_READERS, partial(_reader, task.seed + number, failing, frozenset({errno.EIO}))) as readers,
        Crowd(1, partial(_reader, task.seed + number, good, frozenset[int]())) as others,
    ):
        time.sleep(seconds)
        _wait_for_faults(task, faults, before + _FAULTS, percent)
        results, silent = readers.results(60)
        unharmed, silent_too = others.results(60)
    faults.fail(0)
    given = faults.faults - before
    seen = sum(each.faults for each in results)
    task.tally.tried += sum(each.reads for each in results)
    task.tally.add("reads and opens answered EIO", seen)
    for each in [*results, *unharmed]:
        for what in each.wrong:
            task.found(Kind.WRONG, f"{percent} % faults: {what}")
        for what in each.errors:
            task.found(Kind.BROKEN, f"{percent} % faults: {what}")
    if silent + silent_too:
        task.found(Kind.HANG, f"{silent + silent_too} readers gave no answer")
    if given and not seen:
        task.found(Kind.WRONG, f"{given} faults, but no reader was answered EIO")


def _wait_for_faults(task: Task, faults: Faulty, count: int, percent: int) -> None:
    try:
        eventually(lambda: faults.faults >= count, _FAULTS_WITHIN_S, f"{percent} % faults: {_FAULTS} of them")
    except BrokenError as error:
        task.found(Kind.BROKEN, str(error))


def _reader(seed: int, files: Sequence[File], may_fail: frozenset[int], number: int, going: Going) -> Seen:
    seen, rng, contents = Seen(), Random(seed * 1000 + number), mapped(files)
    while going() and not seen.is_enough:
        which = rng.randrange(len(files))
        read_some(rng, files[which].path, contents[which], seen, times=200 if going() else 1, may_fail=may_fail)
    return seen


def _recover(task: Task, files: Sequence[File]) -> None:
    """See that every file can be read again, without a remount, and is right."""

    def all_read() -> bool:
        try:
            return all(file.path.read_bytes() == file.wanted.read_bytes() for file in files)
        except OSError:
            return False

    try:
        took = eventually(all_read, _RECOVERED_WITHIN_S, "recovery once the source is well again")
        task.tally.most("slowest recovery in s", round(took, 2))
    except BrokenError as error:
        task.found(Kind.BROKEN, str(error))
