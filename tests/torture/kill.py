"""The section `kill`: kill -9 of the daemon while it is read from, time and again at the same place."""

import hashlib
import os
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

from tests.mount.images import week
from tests.torture.many_readers import Crowd, Going
from tests.torture.mounting import VDIFS, BrokenError, eventually, is_running
from tests.torture.scratch import detach, mounted_beneath
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["kill", "states_of"]

_READERS = 8
_FREE_WITHIN_S = 2.0
_ENDED_WITHIN_S = 10.0
_MIB = 1 << 20
State = dict[str, tuple[str, int, int]]


def kill(task: Task) -> None:
    """Mount, read, kill, see that the mountpoint is free; the sources must be as they were."""
    source, mountpoint = task.folder / "src", task.folder / "mnt"
    week(source)
    mountpoint.mkdir()
    before, rng = states_of(source), task.rng
    while task.going():
        try:
            _kill_once(task, source, mountpoint, rng)
        finally:
            detach(mountpoint)
        task.tally.tried += 1
    if states_of(source) != before:
        task.found(Kind.BROKEN, "the sources have changed")


def states_of(folder: Path) -> State:
    """Return hash, modification time and inode number of every file."""
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns, file.stat().st_ino)
        for file in sorted(folder.iterdir())
    }


def _kill_once(task: Task, source: Path, mountpoint: Path, rng: Random) -> None:
    when = f"kill {task.tally.tried + 1}"
    pid_file, log = task.folder / "pid", task.folder / "log"
    command = [str(word) for word in (VDIFS, "mount", "--pid-file", pid_file, "--log-file", log, source, mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        task.found(Kind.BROKEN, f"{when}: cannot be mounted: {done.stderr.strip()}")
        return
    pid = int(pid_file.read_text())
    with Crowd(_READERS, partial(_reader, mountpoint)) as readers:
        try:
            time.sleep(rng.uniform(0.02, 0.3))
            os.kill(pid, signal.SIGKILL)
            took = eventually(lambda: mountpoint not in mounted_beneath(mountpoint), _FREE_WITHIN_S, "mountpoint free")
            task.tally.most("slowest to be free in s", round(took, 3))
            eventually(lambda: not is_running(pid), _ENDED_WITHIN_S, "end of the daemon")
            eventually(lambda: not pid_file.exists(), _ENDED_WITHIN_S, "pid file removed")
        except BrokenError as error:
            task.found(Kind.HANG, f"{when}: {error}")
        finally:
            _make_sure(pid)
        results, silent = readers.results(30)
    task.tally.add("reads", sum(results))
    if silent:
        task.found(Kind.HANG, f"{when}: {silent} readers hang")


def _make_sure(pid: int) -> None:
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)


def _reader(mountpoint: Path, number: int, going: Going) -> int:
    """Read until the mount is gone."""
    names = ["full/tuesday.qcow2", "raw/tuesday.qcow2.raw", "raw/base.qcow2.raw"]
    path, reads = mountpoint / names[number % len(names)], 0
    flags = os.O_DIRECT if number % 2 else 0
    while going():
        try:
            descriptor = os.open(path, os.O_RDONLY | flags)
        except OSError:
            return reads
        try:
            for offset in range(0, 16 * _MIB, 64 << 10):
                os.pread(descriptor, 64 << 10, offset)
                reads += 1
        except OSError:
            return reads
        finally:
            with suppress(OSError):  # a file that is closed for the first time asks the daemon, who may be dead
                os.close(descriptor)
    return reads
