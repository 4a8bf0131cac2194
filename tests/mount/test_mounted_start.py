"""How a mount begins: in the background or not, as any user, and what is refused."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_tool
from tests.mount.mounting import (
    NOBODY,
    PATIENCE_S,
    ROOT,
    Mounted,
    Mounts,
    driver,
    eventually,
    is_mounted,
    links_of,
    outcome,
    supervisor_of,
)


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
    assert mounted.process.wait(PATIENCE_S) == 0


def test_a_pid_file(mounts: Mounts, source: Path) -> None:
    pid_file = mounts.scratch / "pid"
    mounted = mounts(source, pid_file=str(pid_file))
    assert int(pid_file.read_text()) == mounted.pid
    assert mounted.umount().status == 0
    assert not pid_file.exists()


def test_only_the_daemon_holds_the_mount(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    supervisor = supervisor_of(mounted.pid)

    def holds_nothing_of_it() -> bool:
        links = list(links_of(supervisor).values())
        others = [link for link in links if not link.endswith("/abort")]  # of fusectl: it ends a dead connection
        ordinary = all(link == os.devnull or link.startswith(("pipe:", "/proc/")) for link in others)
        return links.count(os.devnull) in (3, 4) and ordinary

    eventually(holds_nothing_of_it)  # it lets go of what it was born with, and looks at mounts from time to time
    assert "/dev/fuse" in links_of(mounted.pid).values()


@pytest.mark.parametrize(
    ("source_name", "mountpoint_name", "status", "said"),
    [
        ("nothing", "mnt", 1, r"nothing: .*: name an existing directory or image"),
        ("src", "nothing", 1, r"nothing: there is no such mountpoint: make it with 'mkdir -p /.*/nothing'"),
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


@pytest.mark.parametrize("foreground", [False, True])
def test_a_mount_over_a_mount_is_refused(mounts: Mounts, source: Path, foreground: bool) -> None:
    mounted = mounts(source)
    (mounts.scratch / "link").symlink_to(mounted.path)
    for name in (mounted.path, mounts.scratch / "link"):
        refused = mounts.attempt(source, name, foreground=foreground)
        assert refused.status == 1
        assert re.fullmatch(
            f"vdifs: {name}: a vdifs mount is there already: .* take it away with 'vdifs umount {name}'\n", refused.said
        )
    assert mounted.umount().status == 0
    assert not is_mounted(mounted.path)


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
