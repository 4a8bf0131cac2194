"""Each example of the README and of docs/ runs as it stands there, and does what the text beside it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.conftest import require_loop_devices, require_tool
from tests.mount.conftest import require_fuse
from tests.readme.examples import README, examples, fenced_blocks, run
from tests.support import oracle
from tests.support.builder import make

MIB = 1 << 20
FOREIGN = ("vmware", "hyper-v", "xcp-ng", "xcp-ng-chain", "virtualbox", "ova")
"""Recipes that tests/readme/test_foreign_recipes.py tries."""
SAID_ELSEWHERE = {"library"}
"""Fenced blocks that only show what there is, one comment a line; other tests try each of them."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The chain base <- monday <- tuesday in images/, a file system with notes.txt on its first partition."""
    require_tool("qemu-img")
    for name in ("images", "mnt", "backup", "old", "new"):
        (tmp_path / name).mkdir()
    disk = tmp_path / "old/disk.raw"
    _partitioned(disk, tmp_path / "tree")
    images = tmp_path / "images"
    oracle.qemu_img("convert", "-f", "raw", "-O", "qcow2", disk, images / "base.qcow2")
    noise = tmp_path / "noise"
    for day, (name, base) in enumerate((("monday", "base"), ("tuesday", "monday"))):
        make(images / f"{name}.qcow2", 64 * MIB, backing=(f"{base}.qcow2", "qcow2"))
        noise.write_bytes(Random(day).randbytes(MIB))
        oracle.qemu_io(images / f"{name}.qcow2", [f"write -s {noise} {(60 + day) * MIB} 1M"])
    noise.unlink()
    make(images / "disk.qcow2", 64 * MIB, backing=("base.qcow2", "qcow2"))
    oracle.qemu_img("snapshot", "-c", "before-update", images / "disk.qcow2")
    return tmp_path


def _partitioned(disk: Path, tree: Path) -> None:
    """Make a disk of 64 MiB with a partition of 40 MiB from 1 MiB on, an ext4 that holds notes.txt."""
    tree.mkdir()
    (tree / "notes.txt").write_text("written on Sunday\n")
    system = tree.parent / "ext4"
    subprocess.run([require_tool("mkfs.ext4"), "-q", "-d", tree, system, "40M"], check=True)
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(MIB)
        file.write(system.read_bytes())
    system.unlink()
    sfdisk = require_tool("sfdisk")
    subprocess.run([sfdisk, "-q", disk], input="2048,81920,L\n", text=True, check=True, capture_output=True)


def same(left: Path, right: Path) -> None:
    formats = ["raw" if each.suffix == ".raw" else "qcow2" for each in (left, right)]
    oracle.compare(left, right, left_format=formats[0], right_format=formats[1])


def test_every_block_of_every_page_is_run() -> None:
    recipes = "install remove nightly restore restic small look offset debugfs migrate cloud serve python"
    assert set(examples()) == {*recipes.split(), "export", "snapshot", "snapshots", *FOREIGN}
    assert fenced_blocks() == len(examples()) + len(SAID_ELSEWHERE), "a block that no test runs"


def test_install(tmp_path: Path) -> None:
    """With folders of the test's own in place of the system's."""
    language, text = examples()["install"]
    assert language == "sh"
    (tmp_path / "sbin").mkdir()
    for name in ("usr/local", "sbin"):
        text = text.replace(f" /{name}/", f" {tmp_path}/{name}/")
    text = text.replace("scripts/setup run\n", "test -x scripts/setup\n")
    bin_folder = tmp_path / "usr/local/bin"
    (root := tmp_path / "clone/.venv").mkdir(parents=True)
    (root.parent / "scripts").symlink_to(README.parent / "scripts")
    (root / "bin").symlink_to(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euc", text], cwd=root.parent, env=environment, check=True, timeout=120)
    assert (tmp_path / "usr/local/share/man/man1/vdifs.1").read_text().startswith(".TH VDIFS 1 ")
    version = [str(bin_folder / "vdifs"), "--version"]
    assert subprocess.run(version, capture_output=True, text=True, timeout=120).stdout.startswith("vdifs ")
    assert os.access(tmp_path / "sbin/mount.fuse.vdifs", os.X_OK)

    language, text = examples()["remove"]
    assert language == "sh"
    for name in ("usr/local", "sbin"):
        text = text.replace(f" /{name}/", f" {tmp_path}/{name}/")
    shutil.rmtree(root)
    root.mkdir()  # what is removed is not the environment that runs this
    subprocess.run(["bash", "-euc", text], cwd=root.parent, check=True, timeout=120)
    left = [each for each in tmp_path.rglob("*") if not each.is_dir() or each.is_symlink()]
    assert left == [tmp_path / "clone/scripts"]


def test_nightly(folder: Path) -> None:
    require_fuse()
    assert "identical" in run("nightly", folder)
    assert {each.name for each in (folder / "backup").iterdir()} == {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}
    assert (folder / "backup/tuesday.qcow2").stat().st_size < 2 * MIB
    (folder / "images").rename(folder / "lost")
    same(folder / "backup/tuesday.qcow2", folder / "lost/tuesday.qcow2")


def test_restore(folder: Path) -> None:
    for name in ("base", "monday", "tuesday"):
        shutil.copy(folder / f"images/{name}.qcow2", folder / "backup")
    run("restore", folder)
    same(folder / "restored.qcow2", folder / "images/tuesday.qcow2")
    assert "backing-filename" not in oracle.info(folder / "restored.qcow2")


def test_small(folder: Path) -> None:
    assert "identical" in run("small", folder)
    backup, images = folder / "backup/small", folder / "images"
    sizes = [sum(path.stat().st_size for path in each.glob("*day.qcow2")) for each in (backup, images)]
    assert (backup / "base.qcow2").stat().st_size < (images / "base.qcow2").stat().st_size / 2
    assert sizes[0] <= sizes[1]
    images.rename(folder / "lost")
    for name in ("base", "monday", "tuesday"):
        oracle.check(backup / f"{name}.qcow2")
        same(backup / f"{name}.qcow2", folder / f"lost/{name}.qcow2")


def test_restic(folder: Path) -> None:
    require_fuse()
    run("restic", folder)
    (restored,) = (folder / "backup/restored").rglob("tuesday.qcow2")
    same(restored, folder / "images/tuesday.qcow2")


def _until_detached(folder: Path) -> str:
    """Return shell code that waits for the loop devices over the mount: others may look at one for a moment more."""
    listed = f"{require_tool('losetup')} --list --noheadings --output BACK-FILE"
    return f"for _ in {{1..600}}; do {listed} | grep -q '^{folder}/mnt/' || exit 0; sleep 0.1; done; exit 1"


def _stand_in_for_umount(folder: Path) -> None:
    """Put an umount into `folder` that waits until the loop device that it leaves has gone."""
    wrapper = folder / "umount"
    wrapper.write_text(f"""#!/bin/bash
{require_tool("umount")} "$@" || exit
{_until_detached(folder)}
""")
    wrapper.chmod(0o755)


def _stand_in_for_partitions(folder: Path) -> None:
    """Put a losetup into `folder` that makes the first partition's node, where kernel and udev do not.

    It waits until what it detaches has gone.
    """
    wrapper, losetup = folder / "losetup", require_tool("losetup")
    wrapper.write_text(f"""#!/bin/bash
set -e
if [ "$1" = --detach ]; then
  part=$(readlink "$2p1") && {losetup} --detach "$part" && rm "$2p1"
  {losetup} "$@"
  {_until_detached(folder)}
fi
loop=$({losetup} "$@")
[ -e "${{loop}}p1" ] ||
  ln -s "$({losetup} --read-only --offset {MIB} --find --show "$loop")" "${{loop}}p1"
echo "$loop"
""")
    wrapper.chmod(0o755)


def test_look(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can attach loop devices")
    require_fuse()
    require_loop_devices()
    _stand_in_for_partitions(folder)
    run("look", folder)
    assert (folder / "backup/notes.txt").read_text() == "written on Sunday\n"


def test_look_where_there_are_no_partitions(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can attach loop devices")
    require_fuse()
    require_loop_devices()
    _stand_in_for_umount(folder)
    run("offset", folder)
    assert (folder / "backup/notes.txt").read_text() == "written on Sunday\n"


def test_look_without_root(folder: Path) -> None:
    require_fuse()
    run("debugfs", folder)
    assert (folder / "backup/notes.txt").read_text() == "written on Sunday\n"


def test_migrate(folder: Path) -> None:
    run("migrate", folder)
    same(folder / "new/disk.qcow2", folder / "old/disk.raw")
    same(folder / "new/tuesday.raw", folder / "images/tuesday.qcow2")


def test_cloud(folder: Path) -> None:
    require_fuse()
    assert "identical" in run("cloud", folder)
    vhd = folder / "backup/tuesday.qcow2.vhd"
    assert vhd.stat().st_size == 64 * MIB + 512
    assert oracle.virtual_size(vhd, "vpc") == 64 * MIB
    with vhd.open("rb") as file:
        file.seek(-512, os.SEEK_END)
        assert file.read(8) == b"conectix"


def test_serve(folder: Path) -> None:
    require_fuse()
    assert "67108864" in run("serve", folder)
    same(folder / "backup/tuesday.raw", folder / "images/tuesday.qcow2")


def test_python(folder: Path) -> None:
    size, virtual_size, etag = run("python", folder).splitlines()[0].split()
    assert (int(size), int(virtual_size)) == ((folder / "backup/copy.qcow2").stat().st_size, 64 * MIB)
    assert len(etag) == 64
    (folder / "images/base.qcow2").rename(folder / "backup/base.qcow2")
    oracle.check(folder / "backup/copy.qcow2")


def test_export(folder: Path) -> None:
    run("export", folder)
    same(folder / "copy.qcow2", folder / "images/tuesday.qcow2")
    subprocess.run(["zstd", "-dq", folder / "tuesday.raw.zst"], check=True)
    same(folder / "tuesday.raw", folder / "images/tuesday.qcow2")
    assert oracle.info(folder / "tuesday-only.qcow2")["backing-filename"] == "monday.qcow2"


def test_snapshots(folder: Path) -> None:
    """The copies stand alone: also without the disk, and without a day in between."""
    disk, backup = folder / "images/disk.qcow2", folder / "backup"
    oracle.qemu_io(disk, ["write -P 7 8M 300k", "write -z 20M 1M"])
    run("snapshots", folder)
    oracle.qemu_io(disk, ["write -P 8 9M 100k"])
    vdifs("export", disk, backup / "disk.qcow2", "--base", f"{disk}@monday", "--backing-name", "disk.qcow2@monday")
    like = oracle.materialize(disk, folder / "like.raw")
    oracle.qemu_img("snapshot", "-a", "monday", disk)
    same(folder / "disk-monday.qcow2", disk)
    disk.unlink()
    assert (backup / "disk.qcow2@monday").stat().st_size < MIB
    oracle.qemu_img("rebase", "-b", "disk.qcow2@before-update", "-F", "qcow2", "disk.qcow2", cwd=backup)
    (backup / "disk.qcow2@monday").unlink()
    same(backup / "disk.qcow2", like)


def vdifs(*words: str | Path) -> None:
    subprocess.run([Path(sys.executable).with_name("vdifs"), *words], check=True, stderr=subprocess.PIPE)


def test_snapshot(folder: Path) -> None:
    assert "required size" in run("snapshot", folder)
    same(folder / "old.qcow2", folder / "images/base.qcow2")
