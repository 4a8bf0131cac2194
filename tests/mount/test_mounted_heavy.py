"""Files that cost little on disk and much to read, under many names: others read on, and memory stays bounded."""

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from tests.mount.mounting import NOBODY, Mounted, Mounts, as_user
from tests.mount.waits import time_reads
from tests.support.builder import Tables
from tests.support.many_snapshots import link, write_l2_tables, write_snapshots
from tests.support.qcow2 import COPIED

LINKS = 6
ALLOWED_MIB = 64
LATE_S = 0.2


def write_other(path: Path) -> None:
    """Write a small image whose clusters all hold data."""
    cluster = 1 << 16
    empty = Tables(16, 64 * cluster, {0: 1}, data_clusters=64)
    entries = {number: (empty.first_data + number * cluster) | COPIED for number in range(64)}
    Tables(16, 64 * cluster, entries, data_clusters=64).write(path)


@contextmanager
def a_reader_of_another_image(mounted: Mounted) -> Iterator[None]:
    """Read `other.qcow2` while what is inside runs: the slowest read but for one in a hundred is not late.

    For how long a thread of the daemon waited for a processor does not count.
    """
    done = Event()
    with ThreadPoolExecutor(1) as pool:
        reads = time_reads(mounted / "raw/other.qcow2.raw", mounted.pid, lambda: not done.is_set())
        reader = pool.submit(lambda: sorted(each.blamed for each in reads))
        try:
            yield
        finally:
            done.set()
        took = reader.result()
    assert took[len(took) * 99 // 100] < LATE_S


def peak_mib(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) >> 10


def test_many_names_of_heavy_files_keep_no_other_reader_waiting(mounts: Mounts) -> None:
    source = mounts.scratch / "src"
    source.mkdir()
    write_snapshots(source / "snapshots.qcow2", 65_536)
    write_l2_tables(source / "tables.qcow2", 4096)
    for name in ("snapshots.qcow2", "tables.qcow2"):
        link(source / name, LINKS)
    write_other(source / "other.qcow2")
    root = os.geteuid() == 0
    mounted = mounts(source, allow_other=root)
    before = peak_mib(mounted.pid)
    with a_reader_of_another_image(mounted):
        command = ["find", str(mounted.path), "-ls"]
        found = subprocess.run(command, capture_output=True, check=True, **as_user(NOBODY if root else None))
    assert peak_mib(mounted.pid) - before <= ALLOWED_MIB
    assert not [line for line in found.stdout.splitlines() if b"@" in line]
    (problem,) = mounted.status()["problems"]
    assert problem["kind"] == "too-many-snapshots"
    assert "other names of it" in problem["message"]


def test_very_many_snapshots_are_listed_beside_a_reader(mounts: Mounts) -> None:
    """The names of one folder are made in a thread: the first who looks keeps no reader waiting for all that time."""
    source = mounts.scratch / "src"
    source.mkdir()
    write_snapshots(source / "snapshots.qcow2", 16_000)
    write_other(source / "other.qcow2")
    mounted = mounts(source)
    with a_reader_of_another_image(mounted):
        names = os.listdir(mounted / "full")
        assert (mounted / "raw/snapshots.qcow2@s000007.raw").stat().st_size == 1 << 20
    assert len(names) == 16_002
