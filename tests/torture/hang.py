"""The section `hang`: a source that answers nothing, and 300 readers on it. Others go on; no reader waits for ever."""

import errno
import mmap
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from random import Random

from tests.mount.images import week
from tests.torture.eio import files_of
from tests.torture.faulty import Faulty, faulty
from tests.torture.many_readers import Crowd, Going, Latencies
from tests.torture.mounting import BrokenError, Mount, eventually, is_running, mounted, state_of
from tests.torture.reading import File, Seen, mapped, read_some
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["hang"]

READERS = 300
_OTHERS = 4
_DEADLINE_S = 5.0
_LATE_S = 4.5
"""For a machine with 300 processes to do. Who waits for others to be answered first waits another deadline."""
_GONE_WITHIN_S = 5.0
_OTHERS_WITHIN_S = 2.0
_PATIENCE_S = 60.0
_MIB = 1 << 20
_context = get_context("fork")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hung reader got: the name of an error, or "read", after so many seconds."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Start:
    """Lets all readers begin at once. opened, reading: each adds one to it when it is so far."""

    opened: Semaphore = field(default_factory=partial(_context.Semaphore, 0))
    begin: Event = field(default_factory=_context.Event)
    reading: Semaphore = field(default_factory=partial(_context.Semaphore, 0))


def hang(task: Task) -> None:
    """Let the source hang until the deadline has passed for all; then again, and unmount meanwhile."""
    while task.going():
        source, backing = task.folder / "src", task.folder / "backing"
        if not backing.exists():
            week(source)
            week(backing)
        slow = source / "slow"
        with faulty(backing, slow, task.folder / "control") as fault:
            _cycle(task, fault, source)
        slow.rmdir()


@contextmanager
def _answering_again(fault: Faulty) -> Iterator[None]:
    """End the hang with the block, or the threads that wait in the source would keep what is left of the daemon."""
    try:
        yield
    finally:
        fault.hang(False)


def _cycle(task: Task, fault: Faulty, source: Path) -> None:
    with mounted(task, source, "--deadline", f"{_DEADLINE_S:g}") as mount, _answering_again(fault):
        good = files_of(task.folder, source, mount.path / "raw")
        hung = mount.path / "raw/slow/base.qcow2.raw"
        start = _Start()
        with Crowd(READERS, partial(_hung_reader, hung, start)) as readers:
            _all_are(start.opened, "have opened the file")
            with Crowd(_OTHERS, partial(_other, task.seed, good)) as others:
                fault.hang(True)
                start.begin.set()
                answers, silent = readers.answers(_DEADLINE_S + 20)
                seen, silent_others = others.results(30)
            _conclude(task, answers, silent)
            _conclude_others(task, seen, silent_others)
        fault.hang(False)
        _recover(task, hung, good)
        start = _Start()
        with Crowd(READERS, partial(_hung_reader, hung, start)) as readers:
            _all_are(start.opened, "have opened the file")
            fault.hang(True)
            start.begin.set()
            _all_are(start.reading, "have begun to read")
            eventually(lambda: not any(state_of(pid) == "R" for pid in readers.pids), _PATIENCE_S, "all readers wait")
            _unmount(task, mount, readers.pids)
            answers, silent = readers.answers(30)
            task.tally.tried += len(answers)
            if silent:
                task.found(Kind.HANG, f"{silent} readers still wait after the unmount")


def _all_are(so_far: Semaphore, what: str) -> None:
    """Wait until all readers are so far. Raises BrokenError."""
    ends = time.monotonic() + _PATIENCE_S
    for number in range(READERS):
        if not so_far.acquire(timeout=max(0.0, ends - time.monotonic())):
            raise BrokenError(f"only {number} of {READERS} readers {what} after {_PATIENCE_S:g} s")


def _hung_reader(path: Path, start: _Start, number: int, _going: Going) -> Answer:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    start.opened.release()
    start.begin.wait()
    began = time.monotonic()
    what = "read"
    try:
        with mmap.mmap(-1, 4096) as buffer:
            start.reading.release()
            os.preadv(descriptor, [buffer], number * 8192 % (3 * _MIB))
    except OSError as error:
        what = errno.errorcode[error.errno or 0]
    return Answer(what, time.monotonic() - began)


def _other(seed: int, files: Sequence[File], number: int, going: Going) -> Seen:
    """Read and look at what does not hang."""
    seen, rng, contents = Seen(), Random(seed * 1000 + number), mapped(files)
    while going() and not seen.is_enough:
        which = rng.randrange(len(files))
        read_some(rng, files[which].path, contents[which], seen, times=4, pause=0.005)
        began = time.perf_counter()
        os.stat(files[which].path)
        os.listdir(files[which].path.parents[1] / "full")
        seen.small.add(time.perf_counter() - began)
    return seen


def _conclude(task: Task, answers: Sequence[Answer], silent: int) -> None:
    task.tally.tried += len(answers)
    if silent:
        task.found(Kind.HANG, f"{silent} of {READERS} readers have no answer {_DEADLINE_S + 20:g} s after the hang")
    for answer in answers:
        if answer.what != "EIO":
            task.found(Kind.BROKEN, f"a hung read was answered {answer.what} instead of EIO")
        task.tally.most("slowest EIO in s", round(answer.seconds, 2))
    late = [answer for answer in answers if answer.seconds > _DEADLINE_S + _LATE_S]
    if late:
        task.found(Kind.HANG, f"{len(late)} readers were answered after the deadline of {_DEADLINE_S:g} s: {late[0]}")


def _conclude_others(task: Task, results: Sequence[Seen], silent: int) -> None:
    small = Latencies()
    for seen in results:
        small.merge(seen.small)
        task.tally.add("reads by others", seen.reads)
        for what in seen.wrong:
            task.found(Kind.WRONG, f"elsewhere: {what}")
        for what in seen.errors:
            task.found(Kind.BROKEN, f"elsewhere: {what}")
    p99 = small.percentile(0.99)
    task.tally.most("others' p99 in ms", round(p99 * 1000, 1))
    if p99 > _OTHERS_WITHIN_S:
        task.found(Kind.HANG, f"others' p99 is {p99:.1f} s")
    if silent:
        task.found(Kind.HANG, f"{silent} readers of other files have no answer")


def _recover(task: Task, hung: Path, good: Sequence[File]) -> None:
    """See that the file that hung can be read again: it holds what its namesake outside holds."""
    wanted = next(file.wanted for file in good if file.path.name == hung.name).read_bytes()

    def is_read() -> bool:
        try:
            return hung.read_bytes() == wanted
        except OSError:
            return False

    try:
        took = eventually(is_read, 10, "recovery once the source answers again")
        task.tally.most("slowest recovery in s", round(took, 2))
    except BrokenError as error:
        task.found(Kind.BROKEN, str(error))


def _unmount(task: Task, mount: Mount, readers: Sequence[int]) -> None:
    """End the mount while its source hangs; nothing may be left of it, and no process in state D."""
    mount.ended = True
    os.kill(mount.pid, signal.SIGTERM)
    try:
        took = eventually(lambda: not mount.is_mounted(), _GONE_WITHIN_S, "unmount while the source hangs")
        eventually(lambda: not is_running(mount.pid), _GONE_WITHIN_S, "end of the daemon while the source hangs")
        task.tally.most("slowest unmount in s", round(took, 2))
        eventually(lambda: not _stuck([mount.pid, *readers]), _GONE_WITHIN_S, "no process in state D")
    except BrokenError as error:
        task.found(Kind.HANG, str(error))


def _stuck(pids: Sequence[int]) -> list[int]:
    return [pid for pid in pids if state_of(pid) == "D"]
