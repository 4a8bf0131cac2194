"""The section `names`: two files that are cheap to make and dear to read, under many names; others read beside it.

Half of the names are of an image of 65,536 snapshots, half of one of 4,096 L2 tables of 64 KiB. By default they are
hard links, and all are looked at to the end. With VDIFS_TORTURE_DISK=xfs, or btrfs, they are reflinks on such a file
system in a file, each a file of its own: as many are looked at as the time allows.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.mount.waits import time_reads
from tests.support.many_snapshots import link, write_l2_tables, write_snapshots
from tests.torture.many_readers import Crowd, Going, Latencies
from tests.torture.mounting import Mount, mounted
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["names"]

_SNAPSHOTS, _TABLES = 65_536, 4096
_NAMES = 2000
_MOUNTED_WITHIN_S = 10.0
_LATE_S = 0.2
_MIB = 1 << 20
_ALLOWED = 64 * _MIB
_IMAGE, _INODE = 1024, 128
_NOBODY = 65534
_DISK = "VDIFS_TORTURE_DISK"
_DISK_SIZE = 3 << 30


def names(task: Task) -> None:
    """Look at all names, as another user, until the time is over; see how long a reader waits, and who works."""
    kind = os.environ.get(_DISK)
    with _source(task.folder / "src", kind) as source:
        count = task.count or _NAMES
        _fill(source, count, reflinks=kind is not None)
        began = time.monotonic()
        with mounted(task, source, "--allow-other") as mount:
            _tell(task, "seconds to mount", time.monotonic() - began, _MOUNTED_WITHIN_S)
            idle = mount.memory()
            with Crowd(1, partial(_reader, mount.path / "full/other.qcow2", mount.pid, task.seed)) as readers:
                task.begin()
                _look_at_all(task, mount, idle)
                results, silent = readers.results(60)
            if silent:
                task.found(Kind.HANG, "the reader has no answer")
            for whole, blamed in results:
                task.tally.most("p99 of a reader of another image in s", whole.percentile(0.99))
                _tell(task, "p99 without waits for a processor in s", blamed.percentile(0.99), _LATE_S)
            task.tally.tried = count


@contextmanager
def _source(folder: Path, kind: str | None) -> Iterator[Path]:
    """Have an empty folder, on a disk of that kind unless it is None."""
    folder.mkdir()
    if kind is None:
        yield folder
        return
    disk = folder.with_name("disk")
    with disk.open("wb") as file:
        file.truncate(_DISK_SIZE)
    subprocess.run([f"mkfs.{kind}", "-q", disk], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", disk, folder], check=True)
    try:
        folder.chmod(0o755)
        (folder / "images").mkdir()
        yield folder / "images"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(source: Path, count: int, *, reflinks: bool) -> None:
    """Make the two files, with half of `count` names each, and another one."""
    write_snapshots(source / "snapshots.qcow2", _SNAPSHOTS)
    write_l2_tables(source / "tables.qcow2", _TABLES, 16)
    write_l2_tables(source / "other.qcow2", 64)
    for name in ("snapshots.qcow2", "tables.qcow2"):
        if not reflinks:
            link(source / name, count // 2 - 1)
            continue
        for number in range(1, count // 2):
            copy = source / f"{number:04}-{name}"
            subprocess.run(["cp", "--reflink=always", source / name, copy], check=True)


def _look_at_all(task: Task, mount: Mount, idle: int) -> None:
    """Let another user look at everything, while the memory of the daemon is watched; tell how long each worked."""
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    command = ["find", str(mount.path), "-ls"]
    began, before, used = time.monotonic(), _processor_s(mount.pid), os.times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **user) as find:  # type: ignore[call-overload] # the same words for every user
        listed = _count_lines(find, task, mount, idle)
    now = os.times()
    task.tally.most("files looked at", listed)
    task.tally.most("seconds to look at them", time.monotonic() - began)
    task.tally.most("processor seconds of the daemon", _processor_s(mount.pid) - before)
    own = now.children_user + now.children_system - used.children_user - used.children_system
    task.tally.most("processor seconds of find", own)


def _processor_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    else:
        task.tally.add("looked at to the end")
    find.kill()
    return listed


def _reader(path: Path, pid: int, seed: int, _number: int, going: Going) -> tuple[Latencies, Latencies]:
    """Read pages of another image at random; return how long they took, and for how much the daemon is to blame."""
    whole, blamed = Latencies(), Latencies()
    for took in time_reads(path, pid, going, seed):
        whole.add(took.whole)
        blamed.add(took.blamed)
    return whole, blamed


def _tell(task: Task, fact: str, value: float, most: float) -> None:
    task.tally.most(fact, value)
    if value > most:
        task.found(Kind.HANG, f"{fact}: {value:.3f}, at most {most:g}")
