"""A program that has seen new time stamps finds the event of inotify behind the lock of the inode."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vdifs.linux.inode_lock import wait_for_changes
from vdifs.linux.inotify import Watches

_CHANGES = 2000
_SET_TIMES = f"""
import os, sys
for _ in range({_CHANGES}):
    os.utime(sys.argv[1])
    os.chmod(sys.argv[1], 0o644)
"""


def test_the_event_of_a_time_that_is_seen_is_there_behind_it(tmp_path: Path) -> None:
    path, watches = tmp_path / "file", Watches()
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    watch = watches.add(fd)
    assert watch is not None
    if not wait_for_changes(fd):
        pytest.skip("this file system does not tell of extents")
    known: tuple[int, int] | None = 0, os.fstat(fd).st_mtime_ns  # how many events, and the time that goes with them
    with subprocess.Popen([sys.executable, "-c", _SET_TIMES, path]) as program:
        while program.poll() is None:
            before = os.fstat(fd)
            watches.drain()
            after = os.fstat(fd)  # a second change may have the ctime of the first: the kernel's clock is no finer
            if (before.st_ctime_ns, before.st_mtime_ns) != (after.st_ctime_ns, after.st_mtime_ns):
                continue  # events of later changes may be counted
            if known is None or before.st_mtime_ns == known[1] or watch.others != known[0]:
                known = watch.others, before.st_mtime_ns
                continue
            assert wait_for_changes(fd)
            watches.drain()
            assert watch.others > known[0]
            known = None  # events of later changes may be among them
    watches.drain()
    assert watch.others > 0
    watches.start_anew()
    os.close(fd)
