"""The end of a mount under readers that the data plane serves: nothing is left of it, and none of them hangs."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.mounting import (
    PATIENCE_S,
    Mounted,
    Mounts,
    as_user,
    driver,
    eventually,
    is_mounted,
    is_running,
    outcome,
    supervisor_of,
)

READERS = 16
TIMES, TIMES_LONG = 3, 500
End = Callable[[Mounted, subprocess.Popen[bytes]], None]

READ = """
import os, random, sys, threading
def read(path, number):
    rng = random.Random(number)
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        size = os.fstat(file).st_size
        while True:
            os.pread(file, rng.choice([4096, 65536, 1 << 20]), rng.randrange(size // 4096) * 4096)
            started.release()
    except OSError:
        started.release(), os._exit(0)
started = threading.Semaphore(0)
paths, count = sys.argv[2:], int(sys.argv[1])
for number in range(count):
    threading.Thread(target=read, args=[paths[number % len(paths)], number], daemon=True).start()
for _ in range(20 * count):
    started.acquire()
print("reading", flush=True)
threading.Event().wait()
"""


@contextmanager
def readers_of(mounted: Mounted) -> Iterator[subprocess.Popen[bytes]]:
    """Run threads that read at random until they meet an error, which ends their process."""
    names = ("raw/base.qcow2.raw", "full/tuesday.qcow2", "delta/base.qcow2/tuesday.qcow2", "raw/tuesday.qcow2.raw")
    command = ["/usr/bin/python3", "-c", READ, str(READERS), *(str(mounted / name) for name in names)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **as_user(mounted.user)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"reading\n"
            yield process
        finally:
            process.kill()


def terminate(mounted: Mounted, readers: subprocess.Popen[bytes]) -> None:
    del readers
    mounted.kill(signal.SIGTERM)


def kill_9(mounted: Mounted, readers: subprocess.Popen[bytes]) -> None:
    del readers
    mounted.kill(signal.SIGKILL)


def unmount_lazily(mounted: Mounted, readers: subprocess.Popen[bytes]) -> None:
    """Those who read may go on; the last one takes the daemon with it."""
    assert outcome(driver("umount-lazily", str(mounted.path), mounted.user)).status == 0
    assert not is_mounted(mounted.path)
    assert readers.poll() is None
    readers.kill()


def end_many_times(mounts: Mounts, source: Path, user: int | None, end: End, times: int) -> None:
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    if user is not None:
        os.chown(mountpoint, user, user)
    for _ in range(times):
        end_once(mounts(source, mountpoint, user=user), end)


def end_once(mounted: Mounted, end: End) -> None:
    supervisor = supervisor_of(mounted.pid)
    with readers_of(mounted) as readers:
        end(mounted, readers)
        mounted.wait_until_gone(within=2)
        readers.wait(PATIENCE_S)
    eventually(lambda: not is_running(supervisor), within=2)


ENDS = pytest.mark.parametrize("end", [terminate, kill_9, unmount_lazily])


@ENDS
def test_nothing_is_left(mounts: Mounts, source: Path, user: int | None, end: End) -> None:
    end_many_times(mounts, source, user, end, TIMES)


@pytest.mark.long
@pytest.mark.timeout(3600)
@ENDS
def test_nothing_is_left_however_often(mounts: Mounts, source: Path, user: int | None, end: End) -> None:
    end_many_times(mounts, source, user, end, TIMES_LONG)
