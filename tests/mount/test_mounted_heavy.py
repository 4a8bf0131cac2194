"""Files that cost little on disk and much to read, under many names: others read on, and memory stays bounded."""

import mmap
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event

from tests.mount.mounting import NOBODY, Mounts, as_user
from tests.source.many_snapshots import link, write_l2_tables, write_snapshots
from tests.source.tables import COPIED, Tables

LINKS = 6
PAGE = 4096
ALLOWED_MIB = 64
_LATE_S = 1.0
"""For a machine on which all the tests run at once; scripts/torture has the figure."""


def write_other(path: Path) -> None:
    """Write a small image whose clusters all hold data."""
    cluster = 1 << 16
    empty = Tables(16, 64 * cluster, {0: 1}, data_clusters=64)
    entries = {number: (empty.first_data + number * cluster) | COPIED for number in range(64)}
    Tables(16, 64 * cluster, entries, data_clusters=64).write(path)


def read_until(done: Event, path: Path) -> list[float]:
    """Read pages at random, past the page cache; return how long each took, in seconds."""
    took, rng, page = [], Random(1), mmap.mmap(-1, PAGE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        last = os.fstat(descriptor).st_size // PAGE - 1
        while not done.is_set():
            began = time.monotonic()
            assert os.preadv(descriptor, [page], rng.randrange(last) * PAGE) == PAGE
            took.append(time.monotonic() - began)
            time.sleep(0.002)
    finally:
        os.close(descriptor)
    return sorted(took)


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
    before, done = peak_mib(mounted.pid), Event()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read_until, done, mounted / "raw/other.qcow2.raw")
        try:
            command = ["find", str(mounted.path), "-ls"]
            found = subprocess.run(command, capture_output=True, check=True, **as_user(NOBODY if root else None))
        finally:
            done.set()
        took = reader.result()
    assert peak_mib(mounted.pid) - before <= ALLOWED_MIB
    assert took[len(took) * 99 // 100] < _LATE_S
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
    done = Event()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read_until, done, mounted / "raw/other.qcow2.raw")
        try:
            names = os.listdir(mounted / "full")
            assert (mounted / "raw/snapshots.qcow2@s000007.raw").stat().st_size == 1 << 20
        finally:
            done.set()
        took = reader.result()
    assert len(names) == 16_002
    assert took[len(took) * 99 // 100] < _LATE_S
