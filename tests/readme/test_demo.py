"""The recipes of README and docs/recipes.md in `demo/`, as scripts/quickstart leaves it: in order, as printed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require_loop_devices, require_tool
from tests.mount.conftest import require_fuse
from tests.readme.examples import examples, run
from tests.readme.test_examples import _stand_in_for_partitions, _stand_in_for_umount
from tests.support import oracle
from tests.support.builder import write_blank

ROOT = Path(__file__).parents[2]
BEFORE_THEY_RUN = {"look": _stand_in_for_partitions, "offset": _stand_in_for_umount}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone in which everything has been installed."""
    clone = tmp_path_factory.mktemp("clone")
    (clone / "scripts").mkdir()
    for name in ("quickstart", "demo-images"):
        shutil.copy(ROOT / "scripts" / name, clone / "scripts")
    (clone / "scripts/setup").write_text("#!/bin/sh\n")
    (clone / "scripts/setup").chmod(0o755)
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".venv"):
        (clone / name).symlink_to(ROOT / name)
    return clone


def quickstart(clone: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([clone / "scripts/quickstart", *words], capture_output=True, text=True, cwd=clone)


@pytest.fixture
def demo(clone: Path) -> Path:
    require_fuse()
    for tool in ("qemu-img", "qemu-io", "debugfs", "sfdisk"):
        require_tool(tool)
    if not (ROOT / ".venv").exists():
        pytest.skip("these tests run in no .venv of this folder")
    done = quickstart(clone)
    assert done.returncode == 0, done.stderr
    assert "All of it held." in done.stdout
    return clone / "demo"


def look_at_what_they_begin_with(demo: Path) -> None:
    images = ["base.qcow2", "disk.qcow2", "monday.qcow2", "tuesday.qcow2", "wednesday.qcow2"]
    assert sorted(os.listdir(demo)) == ["backup", "copies", "images", "mnt", "new", "old"]
    assert sorted(os.listdir(demo / "images")) == images
    assert [len(os.listdir(demo / name)) for name in ("backup", "mnt", "new")] == [0, 0, 0]
    assert [each["name"] for each in oracle.info(demo / "images/disk.qcow2")["snapshots"]] == ["before-update"]


def test_every_recipe_runs_in_the_demo_as_it_is_printed(demo: Path) -> None:
    look_at_what_they_begin_with(demo)
    recipes = [name for name in examples(of_demo=True) if name not in ("install", "remove")]
    if os.geteuid() == 0:
        require_loop_devices()
    else:
        recipes = [name for name in recipes if name not in BEFORE_THEY_RUN]
    for name in recipes:
        if prepare := BEFORE_THEY_RUN.get(name):
            prepare(demo)
        run(name, demo)
        notes = demo / "backup/notes.txt"
        if name in ("look", "offset", "debugfs"):
            assert notes.read_text() == "written on Sunday\n"
            notes.unlink()
        for wrapper in ("losetup", "umount"):
            (demo / wrapper).unlink(missing_ok=True)
    oracle.compare(demo / "restored.qcow2", demo / "images/tuesday.qcow2")
    oracle.compare(demo / "old.qcow2", demo / "images/base.qcow2")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_quickstart_tells_how_it_is_used(word: str, clone: Path) -> None:
    done = quickstart(clone, word)
    assert (done.returncode, done.stderr) == (0, "")
    assert "    scripts/quickstart SOURCE MOUNTPOINT    mount the images in SOURCE\n" in done.stdout


@pytest.mark.parametrize("words", [["one"], ["--frob"], ["--frob", "mnt"], ["a", "b", "c"]])
def test_quickstart_used_wrongly_is_one_line(words: list[str], clone: Path) -> None:
    done = quickstart(clone, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_quickstart_makes_nothing_for_a_source_that_is_not_there(clone: Path, tmp_path: Path) -> None:
    done = quickstart(clone, tmp_path / "gone", tmp_path / "mnt")
    said = f"scripts/quickstart: {tmp_path}/gone: No such file or directory: name an existing directory or image\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    (tmp_path / "text").write_text("no image")
    done = quickstart(clone, tmp_path / "text", tmp_path / "mnt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"vdifs: {tmp_path}/text: ")
    assert os.listdir(tmp_path) == ["text"]


def test_quickstart_mounts_what_is_there(clone: Path, tmp_path: Path) -> None:
    require_fuse()
    (tmp_path / "images").mkdir()
    write_blank(tmp_path / "images/monday.qcow2")
    done = quickstart(clone, tmp_path / "images", tmp_path / "new/mnt")
    try:
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "new/mnt/full/monday.qcow2").exists()
        assert f"umount {tmp_path}/new/mnt" in done.stdout
    finally:
        subprocess.run([ROOT / ".venv/bin/vdifs", "umount", tmp_path / "new/mnt"], check=True)
