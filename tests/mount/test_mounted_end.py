"""How a mount ends: however it does, nothing is left of it."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.mounting import (
    PATIENCE_S,
    ROOT,
    Mounted,
    Mounts,
    as_user,
    driver,
    eventually,
    is_mounted,
    is_running,
    links_of,
    outcome,
    supervisor_of,
)


@contextmanager
def reader_of(mounted: Mounted, name: str = "raw/base.qcow2.raw") -> Iterator[int]:
    """Run a process that has a file of the mount open."""
    path = str(mounted / name)
    with subprocess.Popen(["tail", "-f", path], stdout=subprocess.DEVNULL, **as_user(mounted.user)) as process:
        try:
            eventually(lambda: path in links_of(process.pid).values())
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("foreground", [False, True])
def test_a_signal_unmounts(
    mounts: Mounts, source: Path, user: int | None, number: signal.Signals, foreground: bool
) -> None:
    if foreground and user is not None:
        pytest.skip("tried as one of them")
    mounted = mounts(source, user=user, foreground=foreground)
    supervisor = supervisor_of(mounted.pid)
    mounted.kill(number)
    mounted.wait_until_gone(within=10)
    eventually(lambda: not is_running(supervisor))
    if mounted.process is not None:
        assert mounted.process.wait(PATIENCE_S) == 0


def test_after_kill_9_the_mountpoint_is_free_within_two_seconds(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source, user=user)
    for _ in range(3):
        mounted.kill(signal.SIGKILL)
        mounted.wait_until_gone(within=2)
        mounted = mounts(source, mounted.path, user=user)


def test_after_kill_9_with_files_open_the_mountpoint_is_free_too(
    mounts: Mounts, source: Path, user: int | None
) -> None:
    mounted = mounts(source, user=user)
    with reader_of(mounted):
        mounted.kill(signal.SIGKILL)
        mounted.wait_until_gone(within=2)


_PIDFD_GETFD = 438


@contextmanager
def sharing_fuse_device(mounted: Mounted) -> Iterator[None]:
    """Hold what the daemon holds of /dev/fuse, as a thread of it does that cannot be ended."""
    number = next(number for number, target in links_of(mounted.pid).items() if target == "/dev/fuse")
    process = os.pidfd_open(mounted.pid)
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, process, number, 0)
    os.close(process)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    yield
    os.close(descriptor)


@pytest.mark.usefixtures("root_only")
def test_readers_of_a_daemon_that_cannot_end_are_told(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with sharing_fuse_device(mounted):
        mounted.kill(signal.SIGSTOP)
        reader = subprocess.Popen(["cat", mounted / "full/base.qcow2"], stderr=subprocess.DEVNULL)
        time.sleep(0.2)
        mounted.kill(signal.SIGKILL)
        mounted.wait_until_gone(within=2)
        assert reader.wait(PATIENCE_S) != 0


READ_FOR_EVER = 'while :; do cat "$0"/full/*.qcow2 >/dev/null 2>&1 || exit; done'


def kill_9_under_load(mounts: Mounts, source: Path, times: int) -> None:
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    for _ in range(times):
        mounted = mounts(source, mountpoint)
        readers = [subprocess.Popen(["sh", "-c", READ_FOR_EVER, str(mountpoint)]) for _ in range(3)]
        time.sleep(0.05)
        mounted.kill(signal.SIGKILL)
        mounted.wait_until_gone(within=2)
        for reader in readers:
            reader.wait(PATIENCE_S)


def test_kill_9_under_load(mounts: Mounts, source: Path) -> None:
    kill_9_under_load(mounts, source, 10)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_kill_9_under_load_many_times(mounts: Mounts, source: Path) -> None:
    kill_9_under_load(mounts, source, 200)


def test_a_signal_unmounts_even_while_files_are_open(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with reader_of(mounted):
        mounted.kill(signal.SIGTERM)
        mounted.wait_until_gone(within=10)


def test_a_mount_that_lost_its_supervisor_says_so_and_the_next_one_takes_its_place(
    mounts: Mounts, source: Path, user: int | None
) -> None:
    """A confined daemon cannot unmount, so both killed leave a dead mount."""
    mounted = mounts(source, user=user)
    os.kill(supervisor_of(mounted.pid), signal.SIGKILL)
    mounted.expect_log("the supervisor was killed: once the daemon ends, take its mount away with 'vdifs umount /")
    eventually(lambda: "the supervisor was killed" in mounted.log())
    mounted.kill(signal.SIGTERM)
    mounted.expect_log("a dead mount stays, as its supervisor was killed: take it away with 'vdifs umount /")
    eventually(lambda: not is_running(mounted.pid))
    assert is_mounted(mounted.path)
    again = mounts(source, mounted.path, user=user)
    assert again.umount().status == 0
    assert not is_mounted(mounted.path)


def test_the_supervisor_outlives_what_is_meant_for_the_daemon(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    supervisor = supervisor_of(mounted.pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(supervisor, number)
    time.sleep(0.2)
    assert is_running(supervisor)
    mounted.kill(signal.SIGKILL)
    mounted.wait_until_gone(within=2)


def test_umount_returns_when_the_daemon_has_gone(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source, user=user)
    supervisor = supervisor_of(mounted.pid)
    assert mounted.umount().status == 0
    assert not is_running(mounted.pid)
    eventually(lambda: not is_running(supervisor))
    assert not is_mounted(mounted.path)


def test_umount_waits_for_a_daemon_that_is_slow(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    mounted.kill(signal.SIGSTOP)
    try:
        process = driver("umount", str(mounted.path))
        eventually(lambda: not is_mounted(mounted.path))
        time.sleep(0.3)
        assert process.poll() is None
    finally:
        mounted.kill(signal.SIGCONT)
    assert outcome(process).status == 0
    assert not is_running(mounted.pid)


def test_umount_8_ends_the_daemon_too(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source, user=user)
    command = ["umount"] if user is None and os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*command, str(mounted.path)], check=True, **as_user(user))
    mounted.wait_until_gone()


def test_a_new_mount_is_not_taken_away_with_the_old(mounts: Mounts, source: Path) -> None:
    """However fast one follows the other at the same place."""
    mounted = mounts(source)
    for _ in range(5):
        previous = mounted.pid
        subprocess.run(["fusermount3", "-u", mounted.path], check=True)
        mounted = mounts(source, mounted.path)
        eventually(lambda pid=previous: not is_running(pid))  # type: ignore[misc]
        assert os.listdir(mounted / "full")


def test_umount_of_a_mount_in_use_says_by_whom_and_changes_nothing(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with reader_of(mounted) as pid:
        refused = mounted.umount()
        assert refused.status == 1
        assert re.fullmatch(rf"vdifs: .*: busy: in use by tail \({pid}\): end them, .*\n", refused.said)
        assert os.listdir(mounted / "full")
    assert mounted.umount().status == 0


def test_umount_from_within_says_to_leave(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    code = "import os, sys; from vdifs.cli.main import main; os.chdir(sys.argv[1]); sys.exit(main(['umount', '.']))"
    refused = subprocess.run([sys.executable, "-c", code, mounted.path], cwd=ROOT, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (1, "vdifs: .: busy: leave it with cd first\n")
    assert os.listdir(mounted / "full")


def test_umount_of_something_else_is_refused(mounts: Mounts) -> None:
    said = outcome(driver("umount", str(mounts.scratch))).said
    assert said == f"vdifs: {mounts.scratch}: not mounted: name the mountpoint of a 'vdifs mount'\n"
    assert outcome(driver("umount", "/proc")).said == "vdifs: /proc: is no vdifs mount: use 'umount /proc'\n"


def test_umount_through_a_link(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    (mounts.scratch / "link").symlink_to(mounted.path)
    assert outcome(driver("umount", str(mounts.scratch / "link"))).status == 0
    assert not is_mounted(mounted.path)


def killed_with_its_supervisor(mounted: Mounted) -> None:
    supervisor = supervisor_of(mounted.pid)
    mounted.kill(signal.SIGSTOP)  # so that it does not log what happened to the supervisor
    os.kill(supervisor, signal.SIGKILL)
    mounted.kill(signal.SIGKILL)
    eventually(lambda: not is_running(mounted.pid))
    assert is_mounted(mounted.path)


def test_umount_takes_a_dead_mount_away(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source, user=user)
    killed_with_its_supervisor(mounted)
    assert mounted.umount().status == 0
    assert not is_mounted(mounted.path)


def test_a_dead_mount_that_one_may_not_take_away_is_named_as_such(mounts: Mounts, source: Path, nobody: int) -> None:
    mounted = mounts(source, allow_other=True)
    killed_with_its_supervisor(mounted)
    refused = mounts.attempt(source, mounted.path, user=nobody)
    remedy = f"have root, or the user who mounted it, run 'vdifs umount {mounted.path}'"
    assert refused.said == f"vdifs: {mounted.path}: a mount whose daemon has gone: {remedy}\n"
    assert is_mounted(mounted.path)


@pytest.mark.usefixtures("root_only")
def test_an_aborted_connection_ends_the_daemon_and_frees_the_mountpoint(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    abort = Path(f"/sys/fs/fuse/connections/{os.minor(mounted.path.stat().st_dev)}/abort")
    if not abort.exists():
        subprocess.run(["mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections"], check=False, capture_output=True)
    if not abort.exists():
        pytest.skip("no control file system for FUSE here")
    abort.write_text("1")
    mounted.wait_until_gone(within=10)


LIST_FOR_EVER = [
    sys.executable,
    "-SEc",
    "import os, sys\nwhile True: [os.stat(f'{at}/{name}') for at, _, names in os.walk(sys.argv[1]) for name in names]",
]


def test_readers_that_are_killed_do_not_stop_the_mount(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for _ in range(20):
        readers = [subprocess.Popen([*LIST_FOR_EVER, str(mounted.path)]) for _ in range(4)]
        time.sleep(0.1)
        for reader in readers:
            reader.kill()
            reader.wait()
        began = time.monotonic()
        assert (mounted / "full/base.qcow2").stat().st_size
        assert time.monotonic() - began < 10
