"""An image that cannot be served stays listed, says why, and disturbs no other."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.mount import images
from tests.mount.mounting import SOON_S, Mounted, Mounts, eventually
from tests.support import oracle
from tests.support.builder import make
from vdifs.report.status import errno_name


def errno_of_open(path: Path) -> str:
    try:
        path.open("rb").close()
    except OSError as error:
        return errno_name(error.errno or 0)
    return "opened"


def looks_broken(path: Path) -> bool:
    status = path.stat()
    return status.st_size == 0 and stat.S_IMODE(status.st_mode) == 0 and stat.S_ISREG(status.st_mode)


def problem_of(mounted: Mounted, name: str) -> dict[str, str]:
    """Return the one problem that keeps an image from being served."""
    (problem,) = [each for each in mounted.status()["problems"] if {"name": name} in each["keeps"]]
    found: dict[str, str] = problem
    return found


@pytest.mark.usefixtures("root_only")
@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [(images.damage_header, "EIO"), (images.encrypted, "EOPNOTSUPP"), (images.damage_l2, "EIO")],
)
def test_a_broken_image_is_listed_and_the_others_are_served(
    mounts: Mounts, source: Path, spoil: object, wanted: str
) -> None:
    shutil.copy(source / "base.qcow2", source / "bad.qcow2")
    assert callable(spoil)
    spoil(source / "bad.qcow2")
    mounted = mounts(source)
    todo = "convert it with" if wanted == "EOPNOTSUPP" else "restore it from a copy"
    mounted.expect_log(f"bad.qcow2.*[:;] {todo}")
    assert "bad.qcow2" in os.listdir(mounted / "full")
    for path in ("full/bad.qcow2", "raw/bad.qcow2.raw", "delta/bad.qcow2/bad.qcow2"):
        assert looks_broken(mounted / path)
        assert errno_of_open(mounted / path) == wanted
    status = mounted.status()
    assert all(todo in each["message"] for each in status["problems"])
    assert [image["name"] for image in status["images"] if not image["served"]] == ["bad.qcow2"]
    for name in ("base.qcow2", "monday.qcow2", "tuesday.qcow2"):
        oracle.compare(mounted / f"full/{name}", source / name)


@pytest.mark.usefixtures("root_only")
def test_a_chain_with_a_broken_member_is_broken_above_it(mounts: Mounts, source: Path) -> None:
    images.damage_l2(source / "monday.qcow2")
    mounted = mounts(source)
    mounted.expect_log("monday.qcow2")
    for path in ("full/monday.qcow2", "full/tuesday.qcow2", "delta/base.qcow2/tuesday.qcow2", "raw/tuesday.qcow2.raw"):
        assert looks_broken(mounted / path), path
        assert errno_of_open(mounted / path) == "EIO"
    oracle.compare(mounted / "full/base.qcow2", source / "base.qcow2")
    assert "monday.qcow2" in problem_of(mounted, "tuesday.qcow2")["message"]


def test_the_reason_is_in_the_status_file(mounts: Mounts, source: Path) -> None:
    images.encrypted(source / "base.qcow2")
    mounted = mounts(source)
    mounted.expect_log("base.qcow2")
    (problem,) = mounted.status()["problems"]
    kept = [{"name": f"{name}.qcow2"} for name in ("base", "monday", "tuesday")]
    assert (problem["name"], problem["errno"], problem["kind"]) == ("base.qcow2", "EOPNOTSUPP", "unsupported")
    assert (problem["severity"], problem["keeps"]) == ("error", kept)
    assert "base.qcow2" in problem["message"]
    assert not any(image["served"] for image in mounted.status()["images"])
    eventually(lambda: problem["message"] in mounted.log())


def test_a_delta_against_a_broken_image_stays_listed(mounts: Mounts, source: Path) -> None:
    images.encrypted(source / "base.qcow2")
    mounted = mounts(source)
    mounted.expect_log("base.qcow2")
    for path in ("delta/base.qcow2/monday.qcow2", "delta/base.qcow2/tuesday.qcow2", "delta/monday.qcow2/tuesday.qcow2"):
        assert looks_broken(mounted / path), path
        assert errno_of_open(mounted / path) == "EOPNOTSUPP"


@pytest.mark.usefixtures("root_only")
def test_a_loop_a_missing_and_a_forbidden_backing_file(mounts: Mounts, source: Path) -> None:
    for name, backing in (("self", "self.qcow2"), ("orphan", "missing.qcow2"), ("thief", "/etc/passwd")):
        make(source / f"{name}.qcow2", images.SIZE)
        oracle.qemu_img("rebase", "-u", "-b", backing, "-F", "qcow2", source / f"{name}.qcow2")
    mounted = mounts(source)
    for name, wanted in (("self", "ELOOP"), ("orphan", "EIO"), ("thief", "EACCES")):
        mounted.expect_log(f"{name}.qcow2")
        assert looks_broken(mounted / f"full/{name}.qcow2")
        assert errno_of_open(mounted / f"full/{name}.qcow2") == wanted
    assert "--trust" in problem_of(mounted, "thief.qcow2")["message"]
    oracle.compare(mounted / "full/tuesday.qcow2", source / "tuesday.qcow2")


def test_a_repaired_image_is_served_within_a_second(mounts: Mounts, source: Path) -> None:
    good = (source / "base.qcow2").read_bytes()
    images.damage_header(source / "base.qcow2")
    mounted = mounts(source)
    mounted.allow_log("base.qcow2")
    path = mounted / "full/base.qcow2"
    assert looks_broken(path)
    (source / "base.qcow2").write_bytes(good)
    eventually(lambda: not looks_broken(path), within=SOON_S)
    oracle.check(path)


def test_ls_and_cp_carry_on(mounts: Mounts, source: Path) -> None:
    shutil.copy(source / "base.qcow2", source / "bad.qcow2")
    images.damage_l2(source / "bad.qcow2")
    mounted = mounts(source)
    mounted.expect_log("bad.qcow2")
    shown = subprocess.run(["ls", "-lR", mounted.path], capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    copy = mounts.scratch / "copy"
    done = subprocess.run(["cp", "-r", mounted / "full", copy], capture_output=True, text=True)
    assert done.stderr.count("\n") == 1
    assert "bad.qcow2" in done.stderr
    oracle.compare(copy / "tuesday.qcow2", source / "tuesday.qcow2")


def test_a_file_called_qcow2_that_is_none_is_a_problem_until_it_is_one(mounts: Mounts, source: Path) -> None:
    (source / "emptied.qcow2").touch()
    images.raw_based(source)  # a raw file, called as one likes, may be a base
    (source / "x.raw").rename(source / "disk.qcow2")
    oracle.qemu_img("rebase", "-u", "-b", "disk.qcow2", "-F", "raw", source / "top.qcow2")
    mounted = mounts(source)
    assert "emptied.qcow2" not in os.listdir(mounted / "full")
    (problem,) = mounted.status()["problems"]
    said = "left out: its first bytes are not 'QFI\\xfb': restore it from a copy, or give it another name"
    assert problem["message"] == f"{source}/emptied.qcow2: {said}"
    shutil.copy(source / "base.qcow2", source / "emptied.qcow2")
    eventually(lambda: "emptied.qcow2" in os.listdir(mounted / "full"), within=SOON_S)
    assert mounted.status()["problems"] == []


def test_names_that_are_taken_are_problems(mounts: Mounts, source: Path) -> None:
    images.raw_based(source)
    shutil.copy(source / "base.qcow2", source / "x.raw.qcow2")
    mounted = mounts(source)
    assert any("x.raw.qcow2: not offered" in problem["message"] for problem in mounted.status()["problems"])
    oracle.compare(mounted / "full/x.raw.qcow2", source / "base.qcow2")
    assert (mounted / "raw/x.raw.raw").stat().st_size


@pytest.mark.usefixtures("root_only")
def test_a_failure_is_logged_once_however_often_it_is_met(mounts: Mounts, source: Path) -> None:
    images.damage_l2(source / "base.qcow2")
    mounted = mounts(source)
    mounted.expect_log("base.qcow2")
    for _ in range(50):
        errno_of_open(mounted / "full/base.qcow2")
        (mounted / "full/base.qcow2").stat()
    assert len([line for line in mounted.whole_log().splitlines() if "WARNING" in line]) == 1


def test_what_is_left_out_is_told_while_it_is(mounts: Mounts, source: Path) -> None:
    """Links are not followed, confined or not; an image that is not served is never without a word."""
    (source / "disk.qcow2").symlink_to("/elsewhere/disk.qcow2")
    (source / "pool").symlink_to("/elsewhere/pool")
    mounted = mounts(source, include=["*.qcow2", "pool", "*.qcow"])
    told = [(each.get("name"), each["kind"], each["keeps"]) for each in mounted.status()["problems"]]
    assert told == [
        ("disk.qcow2", "skipped-link", []),
        ("pool", "skipped-link", []),
        (None, "include", []),
        (None, "include", []),
    ]
    (source / "disk.qcow2").unlink()
    (source / "pool").unlink()
    shutil.copy(source / "base.qcow2", source / "old.qcow")

    def kinds() -> list[str]:
        os.listdir(mounted / "full")
        return [each["kind"] for each in mounted.status()["problems"]]

    eventually(lambda: kinds() == ["include"], within=SOON_S)
