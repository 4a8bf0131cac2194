"""Chains whose images know one another by identity, mounted: read in every view, and refused without their parent."""

import errno
import json
from pathlib import Path

import pytest

from tests.mount.mounting import SOON_S, Mounted, Mounts, eventually
from tests.support import linked, oracle, surgery
from tests.support.builder import make

BLOCK = 64 << 10
BASE = bytes([1]) * BLOCK + bytes([2]) * BLOCK
ABOVE = bytes(BLOCK) + bytes([3]) * BLOCK
WHOLE = BASE[:BLOCK] + ABOVE[BLOCK:]
TOP = WHOLE[:BLOCK] + bytes([4]) * BLOCK


@pytest.fixture
def source(mounts: Mounts) -> Path:
    """A base, an image that names it, one that names no parent, and a qcow2 on top that states no format."""
    source = mounts.scratch / "src"
    (source / "snapshots").mkdir(parents=True)
    linked.write(source / "base.linked", BASE, "base")
    linked.write(source / "named.linked", ABOVE, "named", names=["base.linked"], identities=["base"])
    linked.write(source / "snapshots/nameless.linked", ABOVE, "nameless", names=[], identities=["base"])
    make(source / "top.qcow2", len(BASE), f"write -P 4 {BLOCK} {BLOCK}")
    oracle.qemu_img("rebase", "-u", "-b", "named.linked", "-F", "raw", source / "top.qcow2")
    surgery.forget_backing_format(source / "top.qcow2")
    return source


def test_they_are_shown_and_read_in_every_view(mounts: Mounts, source: Path, tmp_path: Path) -> None:
    shown = mounts(source, module=["tests.mount.linked_driver"])
    for path in ("named.linked", "snapshots/nameless.linked"):
        assert (shown / f"raw/{path}.raw").read_bytes() == WHOLE
        oracle.check(shown / f"full/{path}.qcow2")
        assert oracle.materialize(shown / f"full/{path}.qcow2", tmp_path / "disk.raw").read_bytes() == WHOLE
        delta = shown / f"delta/base.linked/{path}.qcow2"
        assert oracle.info(delta)["backing-filename"] == f"{'../' * path.count('/')}base.linked.qcow2"
        assert [extent.depth for extent in oracle.map_of(delta) if extent.data] == [1, 0]
        assert oracle.materialize(delta, tmp_path / "disk.raw").read_bytes() == WHOLE
    assert (shown / "raw/top.qcow2.raw").read_bytes() == TOP
    status = json.loads((shown / ".vdifs/status.json").read_text())
    assert status["problems"] == []
    assert json.loads((shown / ".vdifs/info/named.linked.json").read_text())["backing-identities"] == ["base"]


def test_a_parent_that_is_replaced_is_no_parent_until_it_is_back(mounts: Mounts, source: Path) -> None:
    shown = mounts(source, module=["tests.mount.linked_driver"])
    shown.expect_log("named.linked: its parent")
    shown.expect_log("nameless.linked: its parent")
    raw = shown / "raw/named.linked.raw"
    assert raw.read_bytes() == WHOLE
    (source / "base.linked").rename(mounts.scratch / "kept")
    linked.write(source / "base.linked", BASE, "another")
    eventually(lambda: _refused(raw), SOON_S)
    eventually(lambda: _refused(shown / "raw/snapshots/nameless.linked.raw"), SOON_S)
    (mounts.scratch / "kept").replace(source / "base.linked")
    eventually(lambda: not _refused(raw), SOON_S)
    assert raw.read_bytes() == WHOLE


def _refused(path: Path) -> bool:
    try:
        return path.read_bytes() is None
    except OSError as error:
        assert error.errno in (errno.EIO, errno.EACCES, errno.ESTALE)
        return True


def test_the_folder_of_its_deltas_is_that_of_the_parent(mounts: Mounts, source: Path) -> None:
    shown: Mounted = mounts(source, module=["tests.mount.linked_driver"])
    assert sorted(path.name for path in (shown / "delta/base.linked").iterdir()) == [
        "base.linked.qcow2", "base.linked.qcow2..base.linked.qcow2", "named.linked.qcow2", "snapshots", "top.qcow2",
    ]  # fmt: skip
