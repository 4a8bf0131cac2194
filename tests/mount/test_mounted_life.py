"""The life of a mount: how it begins, how it ends, and that nothing is left of it however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import cannot_be_tried, require_tool
from tests.mount.mounting import (
    NOBODY,
    ROOT,
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


@pytest.fixture
def nobody() -> int:
    """An ordinary user, as which a test run by root can mount too."""
    if os.geteuid() != 0:
        pytest.skip("only root may become somebody else")
    if not os.stat("/dev/fuse").st_mode & 0o006:
        cannot_be_tried("others may not use /dev/fuse here, as no udev has given it its mode 0666")
    return NOBODY


@pytest.fixture(params=["myself", "ordinary user"])
def user(request: pytest.FixtureRequest) -> int | None:
    """Who mounts: whoever runs the tests, and if that is root an ordinary user too."""
    if request.param == "myself":
        return None
    found: int = request.getfixturevalue("nobody")
    return found


@contextmanager
def reader_of(mounted: Mounted, name: str = "raw/base.qcow2.raw") -> Iterator[int]:
    """Run a process that has a file of the mount open."""
    path = str(mounted / name)
    with subprocess.Popen(["tail", "-f", path], stdout=subprocess.DEVNULL, **as_user(mounted.user)) as process:
        try:
            eventually(lambda: path in [os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir()])
            yield process.pid
        finally:
            process.kill()


# How it begins.


def test_the_caller_gets_the_prompt_back_when_the_mount_answers(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    assert sorted(os.listdir(mounted.path)) == [".vdifs", "delta", "full", "raw"]
    assert mounted.pid not in (os.getpid(), 0)
    assert os.readlink(f"/proc/{mounted.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{mounted.pid}/fd/0") == os.devnull
    assert os.getsid(mounted.pid) == mounted.pid


def test_relative_paths(mounts: Mounts, source: Path) -> None:
    (mounts.scratch / "mnt").mkdir()
    asked = {name: os.path.relpath(mounts.scratch / name, ROOT) for name in ("src", "mnt", "log")}
    options = {"source": asked["src"], "mountpoint": asked["mnt"], "log_file": asked["log"]}
    assert outcome(driver("mount", json.dumps(options))).status == 0
    mounted = Mounted(mounts.scratch / "mnt", mounts.scratch / "log")
    assert mounted.status()["source"] == str(source)
    mounted.pid = mounted.status()["pid"]
    assert mounted.clear_away() == []


def test_in_the_foreground_the_caller_is_the_daemon(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, foreground=True)
    assert mounted.status()["pid"] == mounted.pid
    assert mounted.umount().status == 0
    assert mounted.process is not None
    assert mounted.process.wait(5) == 0


def test_a_pid_file(mounts: Mounts, source: Path) -> None:
    pid_file = mounts.scratch / "pid"
    mounted = mounts(source, pid_file=str(pid_file))
    assert int(pid_file.read_text()) == mounted.pid
    assert mounted.umount().status == 0
    assert not pid_file.exists()


def test_only_the_daemon_holds_the_mount(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    supervisor = supervisor_of(mounted.pid)
    links = [os.readlink(descriptor) for descriptor in Path(f"/proc/{supervisor}/fd").iterdir()]
    assert links.count(os.devnull) in (3, 4)
    assert all(link == os.devnull or link.startswith(("pipe:", "/proc/")) for link in links)
    assert "/dev/fuse" in [os.readlink(descriptor) for descriptor in Path(f"/proc/{mounted.pid}/fd").iterdir()]


@pytest.mark.parametrize(
    ("source_name", "mountpoint_name", "status", "said"),
    [
        ("nothing", "mnt", 1, r"nothing: .*: name an existing directory or image"),
        ("src", "nothing", 1, r"nothing: there is no such mountpoint: make it with mkdir"),
        ("src", "file", 1, r"file: not a directory: the mountpoint must be one"),
        ("src", "src", 2, r"src: the mount would hide .*/src: mount somewhere else"),
        ("src", ".", 2, r"the mount would hide .*/src: mount somewhere else"),
        ("src/base.qcow2", "src", 2, r"the mount would hide .*/src/base.qcow2: mount somewhere else"),
        ("link", "src", 2, r"the mount would hide .*/link: mount somewhere else"),
    ],
)
def test_what_cannot_be_mounted_is_refused_in_one_line(
    mounts: Mounts, source: Path, source_name: str, mountpoint_name: str, status: int, said: str
) -> None:
    (mounts.scratch / "mnt").mkdir()
    (mounts.scratch / "file").touch()
    (mounts.scratch / "link").symlink_to(source)
    for foreground in (True, False):
        refused = mounts.attempt(mounts.scratch / source_name, mounts.scratch / mountpoint_name, foreground=foreground)
        assert refused.status == status
        assert re.fullmatch(f"vdifs: .*{said}\n", refused.said)
        assert not is_mounted(mounts.scratch / mountpoint_name)


@pytest.mark.parametrize("option", ["log_file", "pid_file"])
def test_a_file_that_cannot_be_written_is_refused(mounts: Mounts, source: Path, option: str) -> None:
    (mounts.scratch / "mnt").mkdir()
    options: dict[str, Any] = {option: "/nowhere/at/all"}
    refused = mounts.attempt(source, mounts.scratch / "mnt", **options)
    assert refused.status == 1
    assert re.fullmatch(
        r"vdifs: /nowhere/at/all: No such file or directory: choose another (log|pid) file\n", refused.said
    )
    assert not is_mounted(mounts.scratch / "mnt")


def test_an_ordinary_user_is_told_what_the_kernel_forbids(mounts: Mounts, source: Path, nobody: int) -> None:
    (mounts.scratch / "mnt").mkdir(mode=0o755)
    refused = mounts.attempt(source, mounts.scratch / "mnt", user=nobody)
    assert refused.status == 1
    assert re.fullmatch(r"vdifs: .*/mnt: cannot mount: .*\n", refused.said)
    os.chown(mounts.scratch / "mnt", nobody, nobody)
    if "user_allow_other" not in re.findall(r"^\w+", Path("/etc/fuse.conf").read_text(), re.MULTILINE):
        refused = mounts.attempt(source, mounts.scratch / "mnt", user=nobody, allow_other=True)
        assert "have root add 'user_allow_other' to /etc/fuse.conf" in refused.said


# How it ends.


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
    mounted.wait_until_gone(within=3)
    assert not is_running(supervisor)
    if mounted.process is not None:
        assert mounted.process.wait(5) == 0


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


def test_a_signal_unmounts_even_while_files_are_open(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with reader_of(mounted):
        mounted.kill(signal.SIGTERM)
        mounted.wait_until_gone(within=3)


def test_without_its_supervisor_the_daemon_still_cleans_up(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    os.kill(supervisor_of(mounted.pid), signal.SIGKILL)
    mounted.kill(signal.SIGTERM)
    mounted.wait_until_gone(within=3)


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
    assert not is_running(supervisor)
    assert not is_mounted(mounted.path)


def test_umount_waits_for_a_daemon_that_is_slow(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    mounted.kill(signal.SIGSTOP)
    process = driver("umount", str(mounted.path))
    eventually(lambda: not is_mounted(mounted.path))
    time.sleep(0.3)
    assert process.poll() is None
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


def test_umount_of_something_else_is_refused(mounts: Mounts) -> None:
    assert outcome(driver("umount", str(mounts.scratch))).said == f"vdifs: {mounts.scratch}: not mounted\n"
    assert outcome(driver("umount", "/proc")).said == "vdifs: /proc: is no vdifs mount: use umount\n"


def test_umount_through_a_link(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    (mounts.scratch / "link").symlink_to(mounted.path)
    assert outcome(driver("umount", str(mounts.scratch / "link"))).status == 0
    assert not is_mounted(mounted.path)


def test_a_dead_mount_is_named_as_such_and_umount_takes_it_away(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    os.kill(supervisor_of(mounted.pid), signal.SIGKILL)
    mounted.kill(signal.SIGKILL)
    eventually(lambda: not is_running(mounted.pid))
    assert is_mounted(mounted.path)
    refused = mounts.attempt(source, mounted.path)
    remedy = f"take it away with 'vdifs umount {mounted.path}'"
    assert refused.said == f"vdifs: {mounted.path}: a mount whose daemon has gone: {remedy}\n"
    assert mounted.umount().status == 0
    assert not is_mounted(mounted.path)


@pytest.mark.usefixtures("root_only")
def test_an_aborted_connection_ends_the_daemon_and_frees_the_mountpoint(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    abort = Path(f"/sys/fs/fuse/connections/{os.minor(mounted.path.stat().st_dev)}/abort")
    if not abort.exists():
        subprocess.run(["mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections"], check=False, capture_output=True)
    if not abort.exists():
        pytest.skip("no control file system for FUSE here")
    abort.write_text("1")
    mounted.wait_until_gone(within=3)


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
        assert time.monotonic() - began < 2


@pytest.mark.usefixtures("root_only")
def test_others_may_look_only_if_allowed(mounts: Mounts, source: Path) -> None:
    list_it = [require_tool("ls")]
    closed, opened = mounts(source), mounts(source, allow_other=True)
    assert subprocess.run([*list_it, closed / "full"], user=NOBODY, capture_output=True).returncode != 0
    assert subprocess.run([*list_it, opened / "full"], user=NOBODY, capture_output=True).returncode == 0


@pytest.mark.usefixtures("root_only")
def test_default_permissions_guard_the_files(mounts: Mounts, source: Path) -> None:
    (source / "base.qcow2").chmod(0o600)
    opened = mounts(source, allow_other=True)
    read = ["head", "-c", "1", str(opened / "full/tuesday.qcow2")]
    assert subprocess.run(read, user=NOBODY, capture_output=True).returncode != 0
    assert subprocess.run(read, capture_output=True).returncode == 0
