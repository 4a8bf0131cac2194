"""`--refused hide`: what cannot be served is out of sight, and whole mounts are copied without an error."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounted, Mounts, eventually
from tests.mount.taken_away import Way, removed_and_made_anew, renamed_and_made_anew, renamed_away
from tests.mount.test_mounted_broken import errno_of_open
from tests.mount.test_mounted_copies import inodes
from tests.mount.test_mounted_numbers import borg, restic
from tests.support import oracle
from tests.support.builder import make
from tests.support.writers import qemu_io

BAD = {"live.qcow2", "on-live.qcow2", "bad.qcow2", "broken.qcow2", "orphan.qcow2", "thief.qcow2", "secret.qcow2"}
GOOD = {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}


@contextmanager
def refused(source: Path) -> Iterator[None]:
    """Add one image of each kind that cannot be served, and one above each that shows in headers."""
    for name in ("live", "bad", "broken"):
        shutil.copy(source / "base.qcow2", source / f"{name}.qcow2")
    make(source / "on-live.qcow2", images.SIZE, backing=("live.qcow2", "qcow2"))
    (source / "vms").mkdir()
    broken = {"orphan": "missing.qcow2", "thief": "/etc/passwd", "vms/secret": "../orphan.qcow2"}
    for name, backing in broken.items():
        make(source / f"{name}.qcow2", images.SIZE)
        oracle.qemu_img("rebase", "-u", "-b", backing, "-F", "qcow2", source / f"{name}.qcow2")
    images.damage_header(source / "bad.qcow2")
    images.damage_l2(source / "broken.qcow2")
    with qemu_io(source / "live.qcow2"):
        yield


def images_in(mounted: Mounted) -> set[str]:
    """Return the names of images that show in any path of the mount."""
    shown = {part for path in inodes(mounted.path) for part in path.split("/")}
    return {name for name in BAD | GOOD if any(part.startswith(name) for part in shown)}


@pytest.fixture
def mounted(mounts: Mounts, source: Path) -> Iterator[Mounted]:
    """Images of which some are refused, mounted with `--refused hide`; all that is wrong has shown."""
    with refused(source):
        mounted = mounts(source, refused="hide")
        mounted.allow_log("qcow2")
        eventually(lambda: images_in(mounted) == GOOD)
        yield mounted
        assert mounts.end_all() == []


def test_they_are_not_listed_nor_found_and_told_by_status(mounted: Mounted) -> None:
    shown = inodes(mounted.path)
    assert not [path for path in shown if path.endswith("vms")], "a folder of which all is hidden"
    for path in (
        "full/live.qcow2",
        "raw/bad.qcow2.raw",
        "delta/orphan.qcow2",
        ".vdifs/map/thief.qcow2.json",
        "full/vms",
    ):
        with pytest.raises(FileNotFoundError):
            (mounted / path).stat()
    status = mounted.status()
    assert {image["name"].rpartition("/")[2] for image in status["images"] if not image["served"]} == BAD
    assert {image["name"] for image in status["images"] if image["served"]} == GOOD
    told = str(status["problems"])
    for name in BAD:
        assert name in told


def test_tar_rsync_restic_and_borg_end_without_an_error(mounts: Mounts, mounted: Mounted) -> None:
    for words in (["tar", "-C", mounted.path, "-cf", "/dev/null", "."], ["tar", "-C", mounted.path, "-cS", "."]):
        done = subprocess.run([require_tool(str(words[0])), *map(str, words[1:])], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), words
    rsync = [require_tool("rsync"), "-aH", "--delete", f"{mounted.path}/", str(mounts.scratch / "copy")]
    done = subprocess.run(rsync, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    restic(mounts.scratch / "restic", "init")
    restic(mounts.scratch / "restic", "backup", mounted.path)
    (mounts.scratch / "borg").mkdir()
    repository = mounts.scratch / "borg/repository"
    borg(repository, "init", "-e", "none", repository)
    borg(repository, "create", f"{repository}::one", mounted.path)


def test_by_default_they_are_listed(mounts: Mounts, source: Path) -> None:
    with refused(source):
        mounted = mounts(source)
        mounted.allow_log("qcow2")
        assert {name for name in BAD if name.startswith("secret") or name in os.listdir(mounted / "full")} == BAD
        assert mounts.end_all() == []


def test_an_image_is_hidden_while_it_is_written(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, refused="hide")
    mounted.allow_log("tuesday.qcow2")
    full = mounted / "full"
    assert set(os.listdir(full)) == GOOD
    with qemu_io(source / "tuesday.qcow2"):
        eventually(lambda: set(os.listdir(full)) == GOOD - {"tuesday.qcow2"})
        assert "delta/tuesday.qcow2" not in inodes(mounted.path)
        assert errno_of_open(full / "tuesday.qcow2") == "ENOENT"
        assert errno_of_open(full / "monday.qcow2") == "opened"
    eventually(lambda: set(os.listdir(full)) == GOOD)
    oracle.compare(full / "tuesday.qcow2", source / "tuesday.qcow2")


@pytest.mark.usefixtures("root_only")
def test_a_repaired_image_comes_back(mounts: Mounts, source: Path) -> None:
    good = (source / "tuesday.qcow2").read_bytes()
    images.damage_l2(source / "tuesday.qcow2")
    mounted = mounts(source, refused="hide")
    mounted.allow_log("tuesday.qcow2")
    eventually(lambda: errno_of_open(mounted / "full/tuesday.qcow2") == "ENOENT")
    assert set(os.listdir(mounted / "full")) == GOOD - {"tuesday.qcow2"}
    assert not [path for path in inodes(mounted.path) if "tuesday" in path], "none of its other files"
    (source / "tuesday.qcow2").write_bytes(good)
    eventually(lambda: set(os.listdir(mounted / "full")) == GOOD)
    assert errno_of_open(mounted / "full/tuesday.qcow2") == "opened"


def test_a_lookup_of_what_is_hidden_says_that_it_is_not_there(mounts: Mounts, source: Path) -> None:
    images.damage_header(source / "tuesday.qcow2")
    mounted = mounts(source, refused="hide")
    mounted.allow_log("tuesday.qcow2")
    for path in (
        "full/tuesday.qcow2",
        "delta/base.qcow2/tuesday.qcow2",
        "raw/tuesday.qcow2.raw",
        "delta/tuesday.qcow2",
    ):
        with pytest.raises(OSError) as caught:
            (mounted / path).stat()
        assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("refused", "more", "status", "kept"),
    [
        ("hide", ["--delete"], 0, []),
        ("hide", ["--delete", "--backup", "--backup-dir=../deleted"], 0, ["deleted"]),
        ("hide", [], 0, ["backup"]),
        ("list", ["--delete"], 23, ["backup"]),
    ],
)
def test_what_a_mirror_does_with_the_copy_of_a_hidden_image(
    mounts: Mounts, source: Path, refused: str, more: list[str], status: int, kept: list[str]
) -> None:
    """What the README says beside `--refused hide`."""
    mounted = mounts(source, refused=refused)
    mounted.allow_log("tuesday.qcow2")

    def mirror() -> int:
        command = [require_tool("rsync"), "-rt", *more, f"{mounted.path}/full/", f"{mounts.scratch}/backup/"]
        return subprocess.run(command, capture_output=True).returncode

    assert mirror() == 0
    with qemu_io(source / "tuesday.qcow2"):
        eventually(lambda: errno_of_open(mounted / "full/tuesday.qcow2") != "opened")
        eventually(lambda: ("tuesday.qcow2" in os.listdir(mounted / "full")) == (refused == "list"))
        eventually(lambda: mirror() == status)
    places = [name for name in ("backup", "deleted") if (mounts.scratch / name / "tuesday.qcow2").exists()]
    assert places == kept


@pytest.mark.parametrize(
    ("taken", "way"), [("src", renamed_and_made_anew), ("src/vms", removed_and_made_anew), ("pool", renamed_away)]
)
def test_what_is_taken_away_is_not_hidden_from_a_mirror(mounts: Mounts, taken: str, way: Way) -> None:
    """It would delete its copies. What is in trouble is no refused image."""
    place, backup = mounts.scratch / "place", mounts.scratch / "backup"
    images.week(place / "src/vms")
    (place / "pool").mkdir()
    make(place / "pool/golden.qcow2", images.SIZE)
    make(place / "src/vm.qcow2", images.SIZE, backing=(f"{place}/pool/golden.qcow2", "qcow2"))
    mounted = mounts(place / "src", trusted=[str(place / "pool")], refused="hide")
    mounted.allow_log("place/(src|pool)|the source")

    def mirror() -> int:
        command = [require_tool("rsync"), "-rt", "--delete", f"{mounted.path}/full/", f"{backup}/"]
        return subprocess.run(command, capture_output=True).returncode

    def copies() -> set[Path]:
        return {path for path in backup.rglob("*") if path.is_file()}

    assert mirror() == 0
    before = copies()
    assert len(before) == 5
    with way(place / taken):
        eventually(lambda: mirror() != 0)
        assert mirror() != 0
        assert copies() == before
    eventually(lambda: mirror() == 0)
    assert copies() == before
