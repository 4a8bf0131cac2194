"""The section `changes`: sources that change in every way under 16 readers. Each read proves itself by its stamps."""

import errno
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from mmap import mmap
from pathlib import Path
from random import Random

from tests.torture.chains import SIZE, Event, Family, Models
from tests.torture.many_readers import Crowd, Going
from tests.torture.mounting import BrokenError, Mount, eventually, mounted
from tests.torture.states import History, Pages, State, pages_of
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["Sighting", "changes", "judge_sightings"]

READERS = 16
_FAMILIES = 4
_CHUNK = 64 << 10
_VIEWS = [("raw", "top", "raw/{}/top.qcow2.raw"), ("raw", "base", "raw/{}/base.qcow2.raw"),
          ("full", "top", "full/{}/top.qcow2")]  # fmt: skip
_EXPECTED = frozenset({errno.ESTALE, errno.EIO, errno.EBUSY, errno.ENOENT})
_LATE_S = 5.0
_NEW_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """What an open file showed. family, view, image: which one; inode: its number; whole: up to its end."""

    family: str
    view: str
    image: str
    inode: int
    pages: Pages
    whole: bool


@dataclass(slots=True)
class Seen:
    """What one reader saw: each sighting with the last moment it was opened and the first it was closed."""

    opens: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    sightings: dict[Sighting, tuple[float, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def changes(task: Task) -> None:
    """Let event after event happen; look at the new state after each; at the end judge all that was seen."""
    source = task.folder / "src"
    models = Models.made(task.folder / "models")
    rng = task.rng
    families = [
        Family(source / f"f{number}", models, task.folder / f"fresh{number}", Random(rng.random()))
        for number in range(_FAMILIES)
    ]
    for family in families:
        family.begin()
    with mounted(task, source) as mount:
        names = [family.folder.name for family in families]
        with Crowd(READERS, partial(_reader, mount.path, names, task.seed)) as readers:
            while task.going():
                _one_event(task, mount, rng.choice(families))
            results, silent = readers.results(60)
    task.tally.facts["opens"] = sum(seen.opens for seen in results)
    for seen in results:
        for name, count in seen.refused.items():
            task.tally.add(f"{name}s", count)
        for what in seen.wrong:
            task.found(Kind.BROKEN, what)
    if silent:
        task.found(Kind.HANG, f"{silent} of {READERS} readers gave no answer")
    histories = {(family.folder.name, name): family.histories[name] for family in families for name in family.histories}
    for what in judge_sightings([seen.sightings for seen in results], histories):
        task.found(Kind.WRONG, what)
    task.tally.facts["different states seen"] = len({sighting for seen in results for sighting in seen.sightings})


def _one_event(task: Task, mount: Mount, family: Family) -> None:
    """Let one happen; who has the file open gets the old bytes or an error, the next open gives the new state."""
    before = {name: family.state(name) for name in ("top", "base")}
    with ExitStack() as stack:
        held = {name: _opened(mount.path / f"raw/{family.folder.name}/{name}.qcow2.raw", stack) for name in before}
        event = family.happen()
        task.tally.tried += 1
        task.tally.add(event.what)
        for name, old in held.items():
            if old is not None:
                _look_at_old(task, event, name, old.descriptor, before[name])
            inode = old.inode if old is not None and name in event.in_place else None
            _look_at_new(task, event, mount, family, name, inode)


@dataclass(frozen=True, slots=True)
class _Old:
    """A file that was opened before an event."""

    descriptor: int
    inode: int


def _opened(path: Path, stack: ExitStack) -> _Old | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        stack.callback(os.close, descriptor)
        return _Old(descriptor, os.fstat(descriptor).st_ino)
    except OSError:
        return None


def _look_at_old(task: Task, event: Event, name: str, descriptor: int, state: State) -> None:
    try:
        with mmap(-1, _CHUNK) as buffer:
            count = os.preadv(descriptor, [buffer], 0)
            pages = pages_of(buffer[:count], 0)
    except OSError as error:
        if error.errno not in (errno.ESTALE, errno.EIO):
            task.found(Kind.BROKEN, f"{event.what}: {name}, open before: {errno.errorcode[error.errno or 0]}")
        return
    if pages != state[: len(pages)]:
        task.found(Kind.WRONG, f"{event.what}: {name}, open before, shows other bytes")


def _look_at_new(task: Task, event: Event, mount: Mount, family: Family, name: str, old: int | None) -> None:
    path, wanted = mount.path / f"raw/{family.folder.name}/{name}.qcow2.raw", family.state(name)
    inode = 0

    def is_new() -> bool:
        nonlocal inode
        try:
            with path.open("rb", buffering=0) as file:
                inode = os.fstat(file.fileno()).st_ino
                data = b"".join(iter(lambda: file.read(SIZE), b""))
        except OSError:
            return False
        return len(data) == len(wanted) * 4096 and pages_of(data, 0) == wanted

    try:
        took = eventually(is_new, _NEW_WITHIN_S, f"{event.what}: the new state of {name}")
        task.tally.most("slowest new state in s", round(took, 2))
    except BrokenError as error:
        task.found(Kind.BROKEN, str(error))
        return
    if inode == old:
        task.found(Kind.BROKEN, f"{event.what}: the new state of {name} has the inode number of the old one")


def _reader(mountpoint: Path, families: Sequence[str], seed: int, number: int, going: Going) -> Seen:
    seen, rng = Seen(), Random(seed * 1000 + number)
    while going() and len(seen.wrong) < 5:
        family = rng.choice(families)
        view, image, pattern = rng.choice(_VIEWS)
        _read(mountpoint / pattern.format(family), family, view, image, rng, seen)
        time.sleep(rng.expovariate(1 / 0.02))
    return seen


def _read(path: Path, family: str, view: str, image: str, rng: Random, seen: Seen) -> None:
    """Read a file from its beginning, at times slowly, until its end or an error."""
    opened, whole, inode = time.monotonic(), False, 0
    found: list[int] = []
    slow = rng.random() < 0.5
    try:
        descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if rng.random() < 0.5 else 0))
        seen.opens += 1
        try:
            status = os.fstat(descriptor)
            inode = status.st_ino
            first = status.st_size - SIZE if view == "full" else 0
            with mmap(-1, _CHUNK) as buffer:
                for offset in range(first, status.st_size, _CHUNK):
                    if not _fill(descriptor, buffer, offset):
                        seen.wrong.append(f"{path.name}: ends before {status.st_size:#x}, at {offset:#x}")
                        return
                    found += pages_of(buffer[:], offset - first)
                    if slow:
                        time.sleep(rng.uniform(0, 0.01))
            whole = view == "raw"
        finally:
            os.close(descriptor)
    except OSError as error:
        name = errno.errorcode[error.errno or 0]
        seen.refused[name] = seen.refused.get(name, 0) + 1
        if error.errno not in _EXPECTED:
            seen.wrong.append(f"{path.name}: {name}")
    if found:
        sighting = Sighting(family, view, image, inode, tuple(found), whole)
        last, first_closed = seen.sightings.get(sighting, (0.0, float("inf")))
        seen.sightings[sighting] = max(last, opened), min(first_closed, time.monotonic())


def _fill(descriptor: int, buffer: mmap, offset: int) -> bool:
    """Read on where a read through the page cache ended early: if it met an error, the next one tells."""
    at = 0
    while at < len(buffer):
        with memoryview(buffer) as view, view[at:] as rest:
            count = os.preadv(descriptor, [rest], offset + at)
        if not count:
            return False
        at += count
    return True


def judge_sightings(
    seen: Sequence[Mapping[Sighting, tuple[float, float]]], histories: Mapping[tuple[str, str], History]
) -> list[str]:
    """Return what is wrong with what was seen: states that never were, that had passed, or two under one inode."""
    found = []
    longest: dict[tuple[str, str, int], Sighting] = {}
    for sightings in seen:
        for sighting, (opened, closed) in sightings.items():
            history = histories[sighting.family, sighting.image]
            where = f"{sighting.view} of {sighting.family}/{sighting.image}.qcow2"
            if (why := history.fault(sighting.pages, opened, closed, _LATE_S, whole=sighting.whole)) is not None:
                found.append(f"{where}: {why}")
            key = (sighting.view, sighting.family + sighting.image, sighting.inode)
            other = longest.setdefault(key, sighting)
            common = min(len(other.pages), len(sighting.pages))
            if other.pages[:common] != sighting.pages[:common]:
                found.append(f"{where}: inode {sighting.inode:#x} shows two states")
            if len(sighting.pages) > len(other.pages):
                longest[key] = sighting
    return found
