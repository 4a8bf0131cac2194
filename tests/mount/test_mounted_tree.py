"""What a user sees in a mount: names, attributes, links, extended attributes, the status file."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.mount import images
from tests.mount.mounting import Mounts
from tests.support import oracle
from tests.support.builder import make
from tests.support.stamps import difference, stamped

MIB = 1 << 20


def tree(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


def test_the_tree_of_the_specification(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    assert tree(mounted.path) == {
        "full",
        "full/base.qcow2",
        "full/monday.qcow2",
        "full/tuesday.qcow2",
        "delta",
        "delta/base.qcow2",
        "delta/base.qcow2/base.qcow2",
        "delta/base.qcow2/base.qcow2..base.qcow2",
        "delta/base.qcow2/monday.qcow2",
        "delta/base.qcow2/tuesday.qcow2",
        "delta/monday.qcow2",
        "delta/monday.qcow2/monday.qcow2",
        "delta/monday.qcow2/monday.qcow2..monday.qcow2",
        "delta/monday.qcow2/tuesday.qcow2",
        "delta/tuesday.qcow2",
        "delta/tuesday.qcow2/tuesday.qcow2",
        "delta/tuesday.qcow2/tuesday.qcow2..tuesday.qcow2",
        "raw",
        "raw/base.qcow2.raw",
        "raw/monday.qcow2.raw",
        "raw/tuesday.qcow2.raw",
        ".vdifs",
        ".vdifs/status.json",
        *(f".vdifs/{kind}" for kind in ("info", "map")),
        *(f".vdifs/{kind}/{n}.qcow2.json" for kind in ("info", "map") for n in ("base", "monday", "tuesday")),
    }


def test_a_listing_opens_no_image(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for folder, _, _ in os.walk(mounted.path):
        assert os.listdir(folder)
    assert mounted.status()["images_open"] == 0


def test_what_a_listing_shows_first_is_never_taken_for_the_size(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with os.scandir(mounted / "raw") as entries:
        assert {entry.name: entry.stat().st_size for entry in entries} == {
            f"{name}.qcow2.raw": images.SIZE for name in ("base", "monday", "tuesday")
        }


def test_the_dots_are_listed(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    shown = subprocess.run(["ls", "-ai", mounted / "full"], capture_output=True, text=True, check=True).stdout
    inodes = {name: int(number) for number, name in (line.split() for line in shown.splitlines())}
    assert inodes["."] == (mounted / "full").stat().st_ino
    assert inodes[".."] == mounted.path.stat().st_ino == 1


def test_attributes(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    newest = max(image.stat().st_mtime_ns for image in source.iterdir())
    status = (mounted / "full/tuesday.qcow2").stat()
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == stat.S_IMODE((source / "tuesday.qcow2").stat().st_mode)
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert status.st_mtime_ns == newest
    assert status.st_size == len((mounted / "full/tuesday.qcow2").read_bytes())
    assert status.st_blocks == -(-status.st_size // 512)
    assert (mounted / "full/base.qcow2").stat().st_mtime_ns == (source / "base.qcow2").stat().st_mtime_ns


def test_the_blocks_of_a_raw_view_are_those_that_hold_data(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    view = (mounted / "raw/base.qcow2.raw").stat()
    assert view.st_size == images.SIZE
    assert view.st_blocks * 512 == 4 * MIB


def test_hard_links(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    full, beside = (mounted / "full/base.qcow2").stat(), (mounted / "delta/base.qcow2/base.qcow2").stat()
    assert os.path.samestat(full, beside)
    assert full.st_nlink == 2
    assert (mounted / "delta/base.qcow2/monday.qcow2").stat().st_nlink == 1
    assert (mounted / "raw/base.qcow2.raw").stat().st_nlink == 1


def test_a_raw_base_of_any_name(mounts: Mounts) -> None:
    """What makes it an image is that its overlay says raw."""
    source = mounts.scratch / "src"
    raw, top = images.raw_based(source)
    raw.rename(source / "disk.bin")
    oracle.qemu_img("rebase", "-u", "-b", "disk.bin", "-F", "raw", top)
    mounted = mounts(source)
    oracle.compare(mounted / "full/disk.bin.qcow2", source / "disk.bin", right_format="raw")
    oracle.compare(mounted / "raw/disk.bin.raw", source / "disk.bin", left_format="raw", right_format="raw")
    oracle.compare(mounted / "full/top.qcow2", mounted / "delta/disk.bin/top.qcow2")
    oracle.compare(mounted / "full/top.qcow2", top)


def test_a_raw_base(mounts: Mounts) -> None:
    raw, _ = images.raw_based(mounts.scratch / "src")
    mounted = mounts(mounts.scratch / "src")
    view, beside = (mounted / "raw/x.raw.raw").stat(), (mounted / "delta/x.raw/x.raw").stat()
    assert os.path.samestat(view, beside)
    assert view.st_nlink == 2
    assert view.st_size == -(-raw.stat().st_size // 512) * 512
    assert oracle.info(mounted / "delta/x.raw/top.qcow2")["backing-filename-format"] == "raw"
    oracle.compare(mounted / "full/top.qcow2", mounted / "delta/x.raw/top.qcow2")
    oracle.compare(mounted / "full/x.raw.qcow2", mounts.scratch / "src/x.raw", right_format="raw")
    oracle.compare(mounted / "delta/x.raw/x.raw..x.raw", mounted / "full/x.raw.qcow2")


def test_extended_attributes(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    delta = mounted / "delta/base.qcow2/tuesday.qcow2"
    values = {name: os.getxattr(delta, name) for name in os.listxattr(delta)}
    etag = values.pop("user.vdifs.etag")
    assert len(bytes.fromhex(etag.decode())) == 32
    assert int(values.pop("user.vdifs.allocated")) > 0
    assert values == {
        "user.vdifs.source": b"tuesday.qcow2",
        "user.vdifs.base": b"base.qcow2",
        "user.vdifs.virtual_size": b"%d" % images.SIZE,
        "user.vdifs.packed": b"0",
        "user.vdifs.depth": b"3",
    }
    assert "user.vdifs.packed" not in os.listxattr(mounted / "raw/tuesday.qcow2.raw")
    assert "user.vdifs.base" not in os.listxattr(mounted / "full/tuesday.qcow2")
    assert os.listxattr(mounted / "full") == []
    for path, name in (
        (delta, "user.other"),
        (mounted / "full/base.qcow2", "user.vdifs.base"),
        (mounted.path, "user.x"),
    ):
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(path, name)


def test_the_base_against_itself_holds_no_data(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    empty = mounted / "delta/monday.qcow2/monday.qcow2..monday.qcow2"
    oracle.check(empty)
    oracle.compare(empty, source / "monday.qcow2")
    assert os.getxattr(empty, "user.vdifs.allocated") == b"0"
    assert not any(extent.depth == 0 and extent.present for extent in oracle.map_of(empty))


def test_a_single_image_is_served_with_its_ancestors_alone(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source / "monday.qcow2")
    assert set(os.listdir(mounted / "full")) == {"base.qcow2", "monday.qcow2"}


def test_paths_across_folders(mounts: Mounts) -> None:
    folder = mounts.scratch / "src"
    base, monday, _ = images.week(folder / "templates")
    (folder / "vms").mkdir()
    make(folder / "vms/a.qcow2", images.SIZE, backing=("../templates/monday.qcow2", "qcow2"))
    mounted = mounts(folder)
    delta = mounted / "delta/templates/base.qcow2/vms/a.qcow2"
    assert oracle.info(delta)["backing-filename"] == "../templates/base.qcow2"
    oracle.compare(delta, folder / "vms/a.qcow2")
    oracle.compare(mounted / "full/templates/monday.qcow2", monday)
    oracle.compare(mounted / "full/templates/base.qcow2", base)


def test_hidden_files_and_links_are_not_served(mounts: Mounts, source: Path) -> None:
    (source / ".hidden.qcow2").write_bytes((source / "base.qcow2").read_bytes())
    (source / "link.qcow2").symlink_to("base.qcow2")
    assert set(os.listdir(mounts(source) / "full")) == {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}


def test_a_mount_inside_its_source_is_not_searched(mounts: Mounts, source: Path) -> None:
    inside = source / "mnt"
    inside.mkdir()
    mounted = mounts(source, inside)
    assert set(os.listdir(mounted / "full")) == {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}
    second = mounts(source)
    assert set(os.listdir(second / "full")) == {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}


def test_names_of_any_bytes_are_served(mounts: Mounts, source: Path) -> None:
    odd = [b"caf\xe9.qcow2", b"new\nline.qcow2", b"nbd:x.qcow2", b"a, b.qcow2", "größe.qcow2".encode()]
    contents = (source / "base.qcow2").read_bytes()
    for name in odd:
        Path(os.fsdecode(bytes(source) + b"/" + name)).write_bytes(contents)
    mounted = mounts(source)
    assert set(odd) <= set(os.listdir(bytes(mounted / "full")))
    for name in odd:
        with open(bytes(mounted / "full") + b"/" + name, "rb") as file:
            assert file.read(4) == b"QFI\xfb"
    report = json.loads((mounted / ".vdifs/status.json").read_bytes())
    assert {"name": "caf\ufffd.qcow2", "name_hex": b"caf\xe9.qcow2".hex()}.items() <= next(
        image for image in report["images"] if "name_hex" in image
    ).items()


def test_the_status_file(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with (mounted / "full/base.qcow2").open("rb", buffering=0) as file:
        file.read(65536)
        status = mounted.status()
    assert status["source"] == str(source)
    assert status["pid"] == mounted.pid
    assert [image["name"] for image in status["images"]] == ["base.qcow2", "monday.qcow2", "tuesday.qcow2"]
    assert all(image["served"] for image in status["images"])
    assert status["problems"] == []
    (open_file,) = status["open_files"]
    assert open_file["file"] == "full/base.qcow2"
    assert open_file["position"] >= 65536
    assert mounted.status()["open_files"] == []
    copied = subprocess.run(["cat", mounted / ".vdifs/status.json"], capture_output=True, check=True).stdout
    assert json.loads(copied)["schema"] == 1


def test_the_file_system_reports_itself(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    report = os.statvfs(mounted.path)
    assert report.f_namemax == 255
    assert report.f_flag & os.ST_RDONLY
    assert report.f_flag & os.ST_NOSUID
    assert report.f_bfree == 0
    assert report.f_files == 3
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if str(mounted.path) in line)
    assert line.split()[0] == str(source)
    assert line.split()[2] == "fuse.vdifs"
    assert {"ro", "nosuid", "nodev", "noexec", "default_permissions"} <= set(line.split()[3].split(","))


def test_owner_and_mode_can_be_chosen(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, uid=12, gid=34, umask=0o027)
    mounted.expect_log("replace the permissions of the sources")
    for path, mode in (("full/base.qcow2", 0o640), ("full", 0o750), (".vdifs/status.json", 0o640)):
        status = (mounted / path).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, mode)


def test_nobody_may_read_what_he_may_not_read_in_the_sources(mounts: Mounts, source: Path) -> None:
    (source / "base.qcow2").chmod(0o640)
    mounted = mounts(source)
    assert stat.S_IMODE((mounted / "full/tuesday.qcow2").stat().st_mode) == 0o640
    (source / "base.qcow2").chmod(0o644)
    source.chmod(0o700)
    second = mounts(source)
    assert stat.S_IMODE((second / "full/tuesday.qcow2").stat().st_mode) == 0o600
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o700


def test_the_cluster_size_can_be_chosen(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, cluster_size=4096)
    assert oracle.info(mounted / "full/base.qcow2")["cluster-size"] == 4096
    oracle.check(mounted / "full/tuesday.qcow2")
    oracle.compare(mounted / "delta/base.qcow2/tuesday.qcow2", source / "tuesday.qcow2")


def test_the_raw_view_holds_what_was_written(mounts: Mounts, source: Path) -> None:
    data = (mounts(source) / "raw/monday.qcow2.raw").read_bytes()
    assert difference(data[:MIB], stamped(0, MIB, 1), 0) is None
    assert difference(data[MIB + 512 : 2 * MIB], stamped(MIB + 512, MIB - 512, 2), MIB + 512) is None
