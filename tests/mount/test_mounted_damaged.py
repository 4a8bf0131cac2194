"""An image that can be read no more keeps all of its names, and with them the last good copies in a mirror."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounted, Mounts, as_user, eventually
from tests.support import oracle
from tests.support.builder import make
from tests.support.image_file import Image


def zeroed(image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bytes(512))


def cut_short(image: Path) -> None:
    os.truncate(image, 0)


def from_the_future(image: Path) -> None:
    Image(image).set(version=9)


def without_its_snapshots(image: Path) -> None:
    """The table of snapshots is the last that stands in an image of QEMU's."""
    with image.open("r+b") as file:
        file.seek(64)
        at = int.from_bytes(file.read(8), "big")
        assert at
        file.seek(at)
        file.write(bytes(512))


def unreadable(image: Path) -> None:
    os.chown(image, 0, 0)
    image.chmod(0o600)


def kept_private(image: Path) -> None:
    """Give it to root, as libvirt does with images of machines: overlays of another user may not use it any more."""
    unreadable(image)


def mirror(mounted: Mounted, backup: Path) -> int:
    command = ["rsync", "-rt", "--delete", "--exclude=/.vdifs/", "--chmod=u+w", f"{mounted.path}/", f"{backup}/"]
    return subprocess.run(command, capture_output=True, text=True, **as_user(mounted.user)).returncode


def names(backup: Path) -> set[str]:
    return {str(path.relative_to(backup)) for path in backup.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("root_only")
@pytest.mark.parametrize(
    "damage", [zeroed, cut_short, from_the_future, without_its_snapshots, unreadable, kept_private]
)
@pytest.mark.parametrize("name", ["base.qcow2", "monday.qcow2", "tuesday.qcow2", "cloud.img", "disk.raw"])
def test_an_image_that_can_be_read_no_more_keeps_its_names(
    mounts: Mounts, damage: Callable[[Path], None], name: str, nobody: int
) -> None:
    """In `full/`, in `raw/`, and those of its deltas, and of deltas against it: a mirror deletes none."""
    require_tool("rsync")
    if name == "disk.raw" and damage is not unreadable:
        pytest.skip("any bytes are a raw image")
    if damage is without_its_snapshots and name != "cloud.img":
        pytest.skip("one kind of image is enough")
    if damage is kept_private and name in ("tuesday.qcow2", "disk.raw"):
        pytest.skip("no image lies on it")
    user = nobody if damage is unreadable else None
    owner = nobody if damage is kept_private else user
    source, backup = mounts.scratch / "src", mounts.scratch / "backup"
    images.week(source)
    (source / "disk.raw").write_bytes(bytes(images.SIZE))
    oracle.qemu_img("snapshot", "-c", "early", source / "monday.qcow2")
    make(source / "cloud.img", images.SIZE)
    oracle.qemu_img("snapshot", "-c", "early", source / "cloud.img")
    make(source / "vm.qcow2", images.SIZE, backing=("cloud.img", "qcow2"))
    kept = (source / name).read_bytes()
    backup.mkdir()
    if owner is not None:
        for path in (source, *source.iterdir(), backup):
            os.chown(path, owner, owner)
    mounted = mounts(source, user=user)
    mounted.allow_log("src")
    assert mirror(mounted, backup) == 0
    copies = names(backup)
    assert {"delta/base.qcow2/tuesday.qcow2", "full/monday.qcow2@early", "full/disk.raw.qcow2"} <= copies
    assert {"full/cloud.img", "full/cloud.img@early", "delta/cloud.img/vm.qcow2"} <= copies
    damage(source / name)
    eventually(lambda: mirror(mounted, backup) == 23)
    for _ in range(3):
        assert mirror(mounted, backup) == 23
    assert names(backup) == copies
    (source / name).unlink()
    (source / name).write_bytes(kept)
    if owner is not None:
        os.chown(source / name, owner, owner)
    eventually(lambda: mirror(mounted, backup) == 0)
    assert names(backup) == copies
