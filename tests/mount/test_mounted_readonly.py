"""Whatever would change something fails, with the errno that an ext4 mounted read-only gives, for any user."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import cannot_be_tried, require_tool
from tests.mount.mounting import ROOT, Mounted, Mounts, as_user, interpreter, umount_disk

HARMLESS = {"fsync", "fsync of the folder"}


def answers(folder: Path, user: int | None) -> dict[str, str]:
    """What each attempt gives, made by that user: the name of an errno, or "done"."""
    found = interpreter(user)
    if found is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    program, environment = found
    command = [program, "-m", "tests.mount.changing", str(folder)]
    shown = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, check=True, text=True, **as_user(user)
    )
    result: dict[str, str] = json.loads(shown.stdout)
    return result


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """What would tell of any change: each file's bytes, and all of its status but the time of the last access."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        xattrs = [(name, os.getxattr(path, name)) for name in os.listxattr(path)]
        times = (status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
        found[str(path)] = (digest, status.st_ino, status.st_size, *times, xattrs)
    return found


@pytest.fixture
def mounted(mounts: Mounts, source: Path, user: int | None) -> Mounted:
    (source / "sub").mkdir()
    os.rename(source / "base.qcow2", source / "file")
    (source / "sub/other.qcow2").write_bytes((source / "file").read_bytes())
    (source / "other").write_bytes((source / "file").read_bytes())
    for name in ("monday.qcow2", "tuesday.qcow2"):
        (source / name).unlink()
    return mounts(source, user=user)


@pytest.fixture
def ext4(mounts: Mounts) -> Iterator[Path]:
    """A folder on an ext4 that is mounted read-only, with the same names in it."""
    contents, image, folder = (mounts.scratch / name for name in ("contents", "image", "ext4"))
    (contents / "sub").mkdir(parents=True)
    folder.mkdir()
    for name in ("file", "other", "sub/other.qcow2"):
        (contents / name).write_bytes(b"x" * 5000)
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([require_tool("mke2fs"), "-q", "-t", "ext4", "-d", contents, image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "ro,loop", image, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr}")
    yield folder
    umount_disk(folder)


@pytest.mark.usefixtures("root_only")
def test_every_attempt_gives_what_a_read_only_ext4_gives_and_changes_nothing(
    mounted: Mounted, ext4: Path, source: Path, user: int | None
) -> None:
    before = state_of(source)
    found = answers(mounted / "full", user)
    assert found == answers(ext4, user)
    assert len(found) >= 26
    assert {name for name, answer in found.items() if answer == "done"} == HARMLESS
    assert state_of(source) == before


def test_every_attempt_fails_and_changes_nothing(mounted: Mounted, source: Path, user: int | None) -> None:
    before = state_of(source)
    found = answers(mounted / "full", user)
    assert {name for name, answer in found.items() if answer == "done"} == HARMLESS
    assert state_of(source) == before
