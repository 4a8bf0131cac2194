"""What opening alone shows is told before any request looks, in the line of `mount` or soon after it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import run_process
from tests.mount import images
from tests.mount.conftest import require_fuse
from tests.mount.mounting import Mounted, Mounts, eventually


def refused(mounted: Mounted) -> list[str]:
    return [image["name"] for image in mounted.status()["images"] if not image["served"]]


def all_are_known(mounted: Mounted) -> bool:
    return bool(mounted.status()["images_to_open"] == 0)


def damaged_beside(source: Path, name: str) -> None:
    shutil.copy(source / "base.qcow2", source / name)
    images.damage_l2(source / name)


def test_as_many_are_refused_before_as_after_a_look(mounts: Mounts, source: Path) -> None:
    damaged_beside(source, "bad.qcow2")
    shutil.copy(source / "base.qcow2", source / "worse.qcow2")
    images.damage_header(source / "worse.qcow2")
    mounted = mounts(source)
    mounted.expect_log("bad.qcow2")
    mounted.expect_log("worse.qcow2")
    eventually(lambda: all_are_known(mounted))
    assert refused(mounted) == ["bad.qcow2", "worse.qcow2"]
    problems = mounted.status()["problems"]
    assert [each["name"] for each in problems] == ["bad.qcow2", "worse.qcow2"]
    subprocess.run(["ls", "-lR", mounted.path], capture_output=True, check=True)
    for path in ("raw/bad.qcow2.raw", "delta/bad.qcow2/bad.qcow2..bad.qcow2"):
        with pytest.raises(OSError, match=r"Input/output error|Permission denied"):
            (mounted / path).read_bytes()
    assert refused(mounted) == ["bad.qcow2", "worse.qcow2"]
    assert [(each["name"], each["message"]) for each in mounted.status()["problems"]] == [
        (each["name"], each["message"]) for each in problems
    ]


def test_a_base_whose_damage_only_opening_shows_is_one_problem(mounts: Mounts, source: Path) -> None:
    images.damage_l2(source / "base.qcow2")
    mounted = mounts(source)
    mounted.expect_log("base.qcow2")
    eventually(lambda: all_are_known(mounted))
    (problem,) = mounted.status()["problems"]
    kept = [{"name": f"{name}.qcow2"} for name in ("base", "monday", "tuesday")]
    assert (problem["name"], problem["kind"], problem["keeps"]) == ("base.qcow2", "damaged", kept)


def test_what_comes_or_is_damaged_later_is_told_too(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    mounted.expect_log("new.qcow2")
    mounted.expect_log("tuesday.qcow2")
    eventually(lambda: all_are_known(mounted))
    damaged_beside(source, "new.qcow2")
    images.damage_l2(source / "tuesday.qcow2")
    eventually(lambda: refused(mounted) == ["new.qcow2", "tuesday.qcow2"])
    os.replace(source / "base.qcow2", source / "new.qcow2")
    shutil.copy(source / "new.qcow2", source / "base.qcow2")
    eventually(lambda: refused(mounted) == ["tuesday.qcow2"])


def test_nothing_stays_open_and_an_idle_mount_sleeps(mounts: Mounts, source: Path) -> None:
    damaged_beside(source, "bad.qcow2")
    mounted = mounts(source)
    mounted.expect_log("bad.qcow2")
    eventually(lambda: all_are_known(mounted))
    assert mounted.status()["images_open"] == 0

    def turns() -> int:
        found = 0
        for task in Path(f"/proc/{mounted.pid}/task").iterdir():
            switches = re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
            found += sum(map(int, switches))
        return found

    def sleeps() -> bool:
        before = turns()
        subprocess.run(["sleep", "1"], check=True)
        return turns() == before

    eventually(sleeps)


def test_mount_says_in_one_line_what_is_not_served(mounts: Mounts, source: Path) -> None:
    require_fuse()
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    try:
        done = run_process("mount", source, mountpoint)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        subprocess.run(["umount", mountpoint], check=True)
        images.damage_header(source / "monday.qcow2")
        (source / "link.qcow2").symlink_to("/elsewhere")
        (source / "pool").symlink_to("/elsewhere/pool")
        (source / "empty.qcow2").touch()
        done = run_process("mount", "--include", "*.qcow2", "--include", "*.img", source, mountpoint)
        said = (
            f"vdifs: {mountpoint}: 2 of 3 images cannot be served, 1 file is left out, 2 links are not followed, "
            f"1 pattern of --include is like no image: see 'vdifs status {mountpoint}'\n"
        )
        assert (done.returncode, done.stdout, done.stderr.decode()) == (0, b"", said)
        assert run_process("status", mountpoint).stdout.count(b"problem: ") == 5
    finally:
        subprocess.run(["umount", "-l", mountpoint], capture_output=True)
