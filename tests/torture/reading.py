"""Reading files of a mount at random and comparing each read with what it must give."""

import errno
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.torture.many_readers import Latencies

__all__ = ["File", "Seen", "mapped", "read_some"]

_KIB = 1 << 10
_SMALL, _LONG = 4 * _KIB, 128 * _KIB


@dataclass(frozen=True, slots=True)
class File:
    """A file of the mount, and one with the bytes it must have."""

    path: Path
    wanted: Path


@dataclass(slots=True)
class Seen:
    """What one reader saw. faults: reads and opens that failed as they may. small: of 4 KiB past the page cache."""

    reads: int = 0
    faults: int = 0
    small: Latencies = field(default_factory=Latencies)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def is_enough(self) -> bool:
        """Whether there is no need to look for more that is wrong."""
        return len(self.wrong) + len(self.errors) >= 5


def mapped(files: Sequence[File]) -> list[mmap.mmap]:
    """Return the contents that files must have."""
    found = []
    for file in files:
        with file.wanted.open("rb") as opened:
            found.append(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ))
    return found


def read_some(
    rng: Random,
    path: Path,
    wanted: mmap.mmap,
    seen: Seen,
    *,
    times: int,
    pause: float = 0.0,
    may_fail: frozenset[int] = frozenset(),
) -> None:
    """Open a file and read from it at random: mostly 4 KiB past the page cache, some through it, some long.

    pause: seconds before each read, on average. may_fail: errors that are no surprise.
    """
    direct = rng.random() < 0.7
    try:
        descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    except OSError as error:
        _failed(error, path, seen, may_fail)
        return
    try:
        size = os.fstat(descriptor).st_size
        if size != len(wanted):
            seen.wrong.append(f"{path.name}: {size} bytes long instead of {len(wanted)}")
        with mmap.mmap(-1, _LONG) as buffer:
            for _ in range(times):
                if pause:
                    time.sleep(rng.expovariate(1 / pause))
                length = _SMALL if rng.random() < 0.9 else _LONG
                offset = rng.randrange(len(wanted)) & (~4095 if direct else -1)
                _read_once(descriptor, buffer, length, offset, path, wanted, seen, may_fail, timed=direct)
                if seen.is_enough:
                    return
    finally:
        os.close(descriptor)


def _read_once(
    descriptor: int,
    buffer: mmap.mmap,
    length: int,
    offset: int,
    path: Path,
    wanted: mmap.mmap,
    seen: Seen,
    may_fail: frozenset[int],
    *,
    timed: bool,
) -> None:
    began = time.perf_counter()
    seen.reads += 1
    try:
        with memoryview(buffer) as view, view[:length] as part:
            count = os.preadv(descriptor, [part], offset)
    except OSError as error:
        _failed(error, path, seen, may_fail)
        return
    if timed and length == _SMALL:
        seen.small.add(time.perf_counter() - began)
    end = min(offset + length, len(wanted))
    # Through the page cache a read ends early where it meets a page that cannot be had; the next one then fails.
    short = count < end - offset and may_fail and not timed
    if buffer[:count] != wanted[offset : offset + count] or (offset + count != end and not short):
        seen.wrong.append(f"{path.name}: of {length} bytes at {offset:#x}, {count} came, not all of them right")


def _failed(error: OSError, path: Path, seen: Seen, may_fail: frozenset[int]) -> None:
    if error.errno in may_fail:
        seen.faults += 1
    else:
        seen.errors.append(f"{path.name}: {errno.errorcode[error.errno or 0]}")
