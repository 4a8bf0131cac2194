"""Modes in a mount and of copies out of it: an ordinary user backs up twice, and a machine writes on the copy."""

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounts, as_user, eventually
from tests.support import oracle
from tests.support.builder import make, write_stamped
from tests.support.units import MIB

CHAIN = ("base.qcow2/base.qcow2", "base.qcow2/monday.qcow2", "monday.qcow2/tuesday.qcow2")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(user: int | None, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [require_tool(str(words[0])), *map(str, words[1:])]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd="/", env=oracle.environment(), **as_user(user)
    )


@pytest.fixture
def owner(user: int | None) -> int | None:
    """An ordinary user, who is asked before write bits stop anything: root may write whatever they say."""
    if user is None and os.geteuid() == 0:
        pytest.skip("root may write whatever the mode says")
    return user


@pytest.fixture
def backup(mounts: Mounts, owner: int | None) -> Path:
    folder = mounts.scratch / "backup"
    folder.mkdir()
    if owner is not None:
        os.chown(folder, owner, owner)
    return folder


@pytest.mark.parametrize("bits", [0o644, 0o600, 0o664, 0o444])
def test_write_bits_are_those_of_the_image(mounts: Mounts, source: Path, bits: int) -> None:
    for name in ("base", "monday"):
        (source / f"{name}.qcow2").chmod(0o666)
    (source / "tuesday.qcow2").chmod(bits)
    mounted = mounts(source)
    for path in ("full/tuesday.qcow2", "delta/base.qcow2/tuesday.qcow2", "raw/tuesday.qcow2.raw"):
        assert mode(mounted / path) == bits, path
    assert mode(mounted / "full/monday.qcow2") == 0o666
    for kind in ("info", "map"):
        assert mode(mounted / f".vdifs/{kind}/tuesday.qcow2.json") == bits & 0o444 | 0o200
    assert mode(mounted / ".vdifs/status.json") == 0o644


def test_they_grant_no_reading_and_no_writing(mounts: Mounts, source: Path) -> None:
    (source / "base.qcow2").chmod(0o600)
    (source / "tuesday.qcow2").chmod(0o666)
    mounted = mounts(source)
    path = mounted / "full/tuesday.qcow2"
    assert mode(path) == 0o622
    for attempt in (lambda: path.open("r+b"), lambda: path.write_bytes(b""), lambda: path.chmod(0o777)):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    assert not os.access(path, os.W_OK)
    assert not os.access(mounted / "full", os.W_OK)


def test_those_of_folders_are_those_of_their_folders_in_the_source(mounts: Mounts, source: Path) -> None:
    (source / "shared").mkdir()
    (source / "shut").mkdir()
    for folder in ("shared", "shut"):
        make(source / folder / "a.qcow2", MIB)
    (source / "shared").chmod(0o775)
    (source / "shut").chmod(0o555)
    source.chmod(0o755)
    for allow_other in (False, True) if os.geteuid() == 0 else (False,):
        mounted = mounts(source, allow_other=allow_other)
        for path in ("", "full", "delta", "raw", ".vdifs", ".vdifs/info", "delta/base.qcow2"):
            assert mode(mounted / path) == 0o755, path
        for path in ("full/shared", "raw/shared", "delta/shared", "delta/shared/a.qcow2/shared", ".vdifs/map/shared"):
            assert mode(mounted / path) == 0o775, path
        assert mode(mounted / "full/shut") == 0o555
    (source / "shut").chmod(0o755)
    eventually(lambda: mode(mounted / "full/shut") == 0o755)


def test_umask_says_who_may_write_too(mounts: Mounts, source: Path) -> None:
    (source / "base.qcow2").chmod(0o400)
    mounted = mounts(source, umask=0o027)
    mounted.expect_log("replace the permissions of the sources")
    for path in ("full/base.qcow2", "raw/base.qcow2.raw", ".vdifs/status.json", ".vdifs/info/base.qcow2.json"):
        assert mode(mounted / path) == 0o640, path
    for path in ("", "full", "delta/base.qcow2"):
        assert mode(mounted / path) == 0o750, path


def test_a_broken_one_has_none(mounts: Mounts, source: Path) -> None:
    images.damage_header(source / "tuesday.qcow2")
    mounted = mounts(source)
    mounted.allow_log("tuesday.qcow2")
    assert mode(mounted / "full/tuesday.qcow2") == 0


def write_and_wait(image: Path, shown: Path, owner: int | None) -> None:
    """Write an image, and wait until the file made of it is another, as that user sees it."""

    def number() -> str:
        return run(owner, "stat", "-c", "%i", shown).stdout

    before = number()
    write_stamped(image, {5 << 20: 4096}, 9)
    eventually(lambda: number() != before)


def test_two_nights_to_the_same_names_and_a_machine_on_the_copy(
    mounts: Mounts, source: Path, backup: Path, owner: int | None
) -> None:
    mounted = mounts(source, user=owner)
    for night in (1, 2):
        if night == 2:
            write_and_wait(source / "tuesday.qcow2", mounted / "full/tuesday.qcow2", owner)
        done = run(owner, "cp", *(mounted / f"delta/{path}" for path in CHAIN), backup)
        assert (done.returncode, done.stderr) == (0, "")
        oracle.compare(backup / "tuesday.qcow2", source / "tuesday.qcow2")
    wrote = run(owner, "qemu-io", "-f", "qcow2", "-c", "write -P 7 3M 64k", backup / "tuesday.qcow2")
    assert (wrote.returncode, wrote.stderr) == (0, "")
    commit = run(owner, "qemu-img", "commit", "-q", backup / "tuesday.qcow2")
    assert (commit.returncode, commit.stderr) == (0, ""), "into monday, which is a copy too"
    oracle.check(backup / "monday.qcow2")


@pytest.mark.parametrize("words", [("cp", "-r"), ("cp", "-a"), ("rsync", "-a"), ("rsync", "-a", "--inplace", "-I")])
def test_two_nights_of_everything(
    mounts: Mounts, source: Path, backup: Path, owner: int | None, words: tuple[str, ...]
) -> None:
    (source / "vms").mkdir()
    shutil.copy(source / "base.qcow2", source / "vms/one.qcow2")
    mounted = mounts(source, user=owner)
    for _ in range(2):
        done = run(owner, *words, f"{mounted.path}/.", backup)
        assert (done.returncode, done.stderr) == (0, "")
    shutil.copy(source / "base.qcow2", source / "vms/two.qcow2")
    eventually(lambda: run(owner, "test", "-e", mounted / "full/vms/two.qcow2").returncode == 0)
    done = run(owner, *words, f"{mounted.path}/.", backup)
    assert (done.returncode, done.stderr) == (0, ""), "a new file in a folder that was copied"
    oracle.compare(backup / "full/vms/two.qcow2", source / "base.qcow2")
