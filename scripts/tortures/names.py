"""The section `names`: two files that are cheap to make and dear to read, under many names; others read beside it.

Half of the names are links to an image of 65,536 snapshots, half to one of 4,096 L2 tables of 64 KiB.
"""

import mmap
import os
import subprocess
import time
from functools import partial
from pathlib import Path
from random import Random

from tests.source.many_snapshots import link, write_l2_tables, write_snapshots
from tortures.crowd import Crowd, Going, Latencies
from tortures.mounting import Mount, mounted
from tortures.tally import Kind
from tortures.task import Task

__all__ = ["names"]

_SNAPSHOTS, _TABLES = 65_536, 4096
_NAMES = 2000
_MOUNTED_WITHIN_S = 10.0
_LATE_S = 0.2
_MIB = 1 << 20
_ALLOWED = 64 * _MIB
_IMAGE, _INODE = 1024, 128
_PAGE = 4096
_NOBODY = 65534


def names(task: Task) -> None:
    """Look at all names once, as another user, until the time is over; then see how long a reader waited."""
    source = task.folder / "src"
    source.mkdir()
    count = task.count or _NAMES
    write_snapshots(source / "snapshots.qcow2", _SNAPSHOTS)
    write_l2_tables(source / "tables.qcow2", _TABLES, 16)
    write_l2_tables(source / "other.qcow2", 64)
    for name in ("snapshots.qcow2", "tables.qcow2"):
        link(source / name, count // 2 - 1)
    began = time.monotonic()
    with mounted(task, source, "--allow-other") as mount:
        _tell(task, "seconds to mount", time.monotonic() - began, _MOUNTED_WITHIN_S)
        idle = mount.memory()
        with Crowd(1, partial(_reader, mount.path / "full/other.qcow2", task.seed)) as readers:
            task.begin()
            _look_at_all(task, mount, idle)
            results, silent = readers.results(60)
        if silent:
            task.found(Kind.HANG, "the reader has no answer")
        for latencies in results:
            _tell(task, "p99 of a reader of another image in s", latencies.percentile(0.99), _LATE_S)
        task.tally.tried = count


def _look_at_all(task: Task, mount: Mount, idle: int) -> None:
    """Let another user look at everything, while the memory of the daemon is watched."""
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    command = ["find", str(mount.path), "-ls"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **user) as find:  # type: ignore[call-overload] # the same words for every user
        listed = _count_lines(find, task, mount, idle)
    task.tally.most("files looked at", listed)


def _count_lines(find: "subprocess.Popen[bytes]", task: Task, mount: Mount, idle: int) -> int:
    assert find.stdout is not None, "it was asked for"
    listed = 0
    for listed, _ in enumerate(find.stdout, 1):
        if not listed % 100:
            taken = mount.memory() - idle
            task.tally.most("most memory in MiB", taken / _MIB)
            allowed = _ALLOWED + _IMAGE * (task.count or _NAMES) + _INODE * listed
            if taken > allowed:
                task.found(Kind.MEMORY, f"{taken / _MIB:.0f} MiB above an idle mount after {listed} files")
                break
            if task.left() <= 0:
                break
    find.kill()
    return listed


def _reader(path: Path, seed: int, _number: int, going: Going) -> Latencies:
    """Read pages of another image at random, past the page cache."""
    latencies, rng, page = Latencies(), Random(seed), mmap.mmap(-1, _PAGE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        last = os.fstat(descriptor).st_size // _PAGE - 1
        while going():
            began = time.monotonic()
            os.preadv(descriptor, [page], rng.randrange(last) * _PAGE)
            latencies.add(time.monotonic() - began)
            time.sleep(0.002)
    finally:
        os.close(descriptor)
    return latencies


def _tell(task: Task, fact: str, value: float, most: float) -> None:
    task.tally.most(fact, value)
    if value > most:
        task.found(Kind.HANG, f"{fact}: {value:.3f}, at most {most:g}")
