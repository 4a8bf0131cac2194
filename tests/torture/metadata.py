"""The section `metadata`: what is no change to the guest, and writes whose time stamps are set back, under readers.

    still.raw   only its metadata change: what is open must go on
    loud.raw    is written too, in place or through a mapping, each time whole, and then made to look as if it were not
    links.raw   only its links, owner and attributes change: who has asked for its number must open the same file

All are read raw and through an overlay. Each page says which generation wrote it, so that all that one open file shows
must be of one.
"""

import errno
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from tests.support.builder import make
from tests.support.stamps import stamped
from tests.torture.many_readers import Crowd, Going
from tests.torture.mounting import mounted
from tests.torture.states import pages_of
from tests.torture.tally import Kind
from tests.torture.task import Task
from vdifs.mount.view.recent_inodes import LONG_S

__all__ = ["metadata"]

_SIZE = 1 << 20
_CHUNK = 64 << 10
_READERS = 8
_MOST_STEPS = 12
_NAMES = ("still", "loud", "links")
_VIEWS = ("raw/{}.raw.raw", "raw/{}.qcow2.raw")
_REFUSED = frozenset({errno.ESTALE, errno.EBUSY, errno.ENOENT, errno.EACCES, errno.EIO})
"""What opening may answer; EIO: the backing file is away for a moment, renamed."""


@dataclass(slots=True)
class Seen:
    """What one reader saw. answers: what it was answered instead of bytes, by name, number and call."""

    reads: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def metadata(task: Task) -> None:
    """Let sequence after sequence of such changes happen to both files."""
    source = task.folder / "src"
    source.mkdir()
    for name in _NAMES:
        (source / f"{name}.raw").write_bytes(stamped(0, _SIZE, 1))
        make(source / f"{name}.qcow2", _SIZE, backing=(f"{name}.raw", "raw"))
    rng, generation = task.rng, 1
    begun = time.monotonic()
    with mounted(task, source) as mount, Crowd(_READERS, partial(_reader, mount.path, task.seed)) as readers:
        while task.going():
            for name in _NAMES:
                generation = _sequence(task, source / f"{name}.raw", rng, generation)
            task.tally.tried += 1
        results, silent = readers.results(60)
    task.tally.facts["reads"] = sum(seen.reads for seen in results)
    # So often a number may move though a reader is about to open its file.
    most = int((time.monotonic() - begun) / LONG_S)
    for seen in results:
        for answer, count in seen.answers.items():
            task.tally.add(answer, count)
        for what in seen.replaced if len(seen.replaced) > most * len(_VIEWS) else ():
            task.found(Kind.BROKEN, what)
        for what in seen.mixed:
            task.found(Kind.WRONG, what)
        for what in seen.broken:
            task.found(Kind.BROKEN, what)
    if silent:
        task.found(Kind.HANG, f"{silent} of {_READERS} readers gave no answer")


def _sequence(task: Task, path: Path, rng: Random, generation: int) -> int:
    """Let some changes happen to one file; return the generation that it holds then."""
    before, loud = path.stat(), path.stem == "loud"
    steps = _QUIET_STEPS if path.stem == "links" else _STEPS
    for _ in range(rng.randint(1, _MOST_STEPS)):
        if loud and rng.random() < 0.3:
            generation = generation % 60_000 + 1
            rng.choice([_write, _write_mapped, _write_by_a_mapping_alone])(path, generation)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            task.tally.add("writes")
        rng.choice(steps)(path)
        task.tally.add("changes of metadata")
        time.sleep(rng.choice([0, 0, 0.001, 0.02]))
    return generation


def _write(path: Path, generation: int) -> None:
    with path.open("r+b", buffering=0) as file:
        for at in range(0, _SIZE, _CHUNK):
            file.write(stamped(at, _CHUNK, generation))


def _write_mapped(path: Path, generation: int) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        for _ in range(2):  # the second time its pages are dirty
            mapped[:] = stamped(0, _SIZE, generation)


def _write_by_a_mapping_alone(path: Path, generation: int) -> None:
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[:] = stamped(0, _SIZE, generation)
    mapped.close()


def _link(path: Path) -> None:
    path.with_name(".link").hardlink_to(path)
    path.with_name(".link").unlink()


def _rename(path: Path) -> None:
    path.rename(path.with_name(".aside"))
    path.with_name(".aside").rename(path)


def _chown(path: Path) -> None:
    os.chown(path, -1, os.getegid())


_QUIET_STEPS: list[Callable[[Path], None]] = [
    _link,
    _chown,
    lambda path: path.chmod(0o644),
    lambda path: os.setxattr(path, "user.torture", b"%d" % time.monotonic_ns()),
]
_STEPS: list[Callable[[Path], None]] = [*_QUIET_STEPS, _rename, os.utime]


def _reader(mountpoint: Path, seed: int, number: int, going: Going) -> Seen:
    seen, rng = Seen(), Random(seed * 1000 + number)
    while going() and len(seen.mixed) + len(seen.broken) < 5:
        name = rng.choice(_NAMES)
        path = mountpoint / rng.choice(_VIEWS).format(name)
        try:
            asked = os.stat(path)
            time.sleep(rng.choice([0, 0, 0.02, 0.3]))
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        except OSError as error:
            _answered(seen, f"{name}: {errno.errorcode[error.errno or 0]} at open", known=error.errno in _REFUSED)
            time.sleep(0.01)
            continue
        try:
            found = os.fstat(descriptor) if name == "links" else asked
            if (asked.st_ino, asked.st_size) != (found.st_ino, found.st_size):
                seen.replaced.append(f"{path.name}: replaced between stat and open: {asked}, {found}")
            _read(descriptor, path, name, rng, seen)
        finally:
            os.close(descriptor)
    return seen


def _read(descriptor: int, path: Path, name: str, rng: Random, seen: Seen) -> None:
    """Read pieces of an open file for a while."""
    generations: set[int] = set()
    with mmap.mmap(-1, _CHUNK) as buffer:
        for _ in range(rng.randint(1, 30)):
            offset = rng.randrange(0, _SIZE, _CHUNK)
            try:
                count = os.preadv(descriptor, [buffer], offset)
                os.fstat(descriptor)
            except OSError as error:
                known = name == "loud" and error.errno == errno.ESTALE
                _answered(seen, f"{name}: {errno.errorcode[error.errno or 0]} at read", known=known)
                return
            seen.reads += 1
            generations.update(pages_of(buffer[:count], offset))
            if len(generations) > 1 or count != _CHUNK:
                seen.mixed.append(f"{path.name}: generations {sorted(generations)} in one open file, {count} bytes")
                return
            time.sleep(rng.choice([0, 0, 0.005]))


def _answered(seen: Seen, what: str, *, known: bool) -> None:
    seen.answers[what] = seen.answers.get(what, 0) + 1
    if not known:
        seen.broken.append(what)
