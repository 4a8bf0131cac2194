"""An image that can be read no more keeps its names, whatever it is called, and however the search came upon it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_mounting, require_tool
from tests.support.age import grow_old
from tests.support.builder import write_blank
from tests.support.many_snapshots import write_snapshots
from tests.support.stamps import stamped
from tests.support.writers import qemu_io
from vdifs.catalog.catalog import Catalog
from vdifs.errors import ChainError, FormatError, InUseError, StorageError, UnsupportedError
from vdifs.formats.qcow2.header import Header

MIB = 1 << 20


@contextmanager
def scanned(source: Path, *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Iterator[Catalog]:
    catalog = Catalog(os.fspath(source), include=include, exclude=exclude)
    try:
        catalog.scan()
        grow_old()
        yield catalog
    finally:
        catalog.close()


def zeroed(image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bytes(512))


def cut_short(image: Path) -> None:
    os.truncate(image, 0)


def replaced_by_nothing(image: Path) -> None:
    image.with_name("nothing").touch()
    image.with_name("nothing").rename(image)


@pytest.mark.parametrize("damage", [zeroed, cut_short, replaced_by_nothing])
def test_a_qcow2_that_is_called_as_raw_images_are_is_none_when_its_header_is_lost(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    write_blank(tmp_path / "base.img")
    write_blank(tmp_path / "cloud.img", "base.img", "qcow2")
    write_blank(tmp_path / "top.qcow2", "cloud.img", "qcow2")
    with scanned(tmp_path) as catalog:
        damage(tmp_path / "cloud.img")
        assert catalog.scan()
        cloud = catalog.entries["cloud.img"]
        assert (cloud.format, cloud.backing_path) == ("qcow2", "base.img")
        assert isinstance(cloud.problem, FormatError)
        assert catalog.overlays("base.img") == ("cloud.img", "top.qcow2")
        write_blank(tmp_path / "cloud.img", "base.img", "qcow2")
        assert catalog.scan()
        assert catalog.entries["cloud.img"].problem is None


def test_a_raw_image_that_takes_its_place_is_one(tmp_path: Path) -> None:
    write_blank(tmp_path / "cloud.img")
    with scanned(tmp_path) as catalog:
        (tmp_path / "new").write_bytes(stamped(0, MIB, 1))
        (tmp_path / "new").rename(tmp_path / "cloud.img")
        assert catalog.scan()
        assert (catalog.entries["cloud.img"].format, catalog.entries["cloud.img"].problem) == ("raw", None)


def without_table(image: Path) -> None:
    """Leave a header that says where the table was: beyond the end are zeros."""
    with image.open("r+b") as file:
        file.seek(64)
        file.write(b"\0\0\xff\0\0\0\0\0")


def with_a_bad_entry(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(Header.parse(image.read_bytes()[:512]).snapshots_offset + 36)
        file.write(b"\xff" * 4)


@pytest.mark.parametrize(("damage", "whole"), [(without_table, False), (with_a_bad_entry, True), (zeroed, True)])
def test_an_image_whose_header_or_table_of_snapshots_is_damaged_keeps_them(
    tmp_path: Path, damage: Callable[[Path], None], whole: bool
) -> None:
    image = tmp_path / "disk.qcow2"
    write_snapshots(image, 3)
    good = image.read_bytes()
    with scanned(tmp_path) as catalog:
        names = set(catalog.entries)
        assert len(names) == 4
        for _ in range(2):
            damage(image)
            for _ in range(2):
                catalog.scan()
                assert set(catalog.entries) == names
                broken = {path for path, entry in catalog.entries.items() if isinstance(entry.problem, FormatError)}
                assert broken == (names if whole else names - {"disk.qcow2"})
            grow_old()
        image.write_bytes(good)
        assert catalog.scan()
        assert set(catalog.entries) == names
        assert all(entry.problem is None for entry in catalog.entries.values())


def test_an_image_that_is_written_and_whose_header_cannot_be_read_keeps_its_links(tmp_path: Path) -> None:
    require_tool("qemu-io")
    write_blank(tmp_path / "base.qcow2")
    write_blank(tmp_path / "top.qcow2", "base.qcow2", "qcow2")
    with scanned(tmp_path) as catalog, qemu_io(tmp_path / "top.qcow2"):
        with (tmp_path / "top.qcow2").open("r+b") as file:
            file.seek(4)
            file.write(b"\0\0\0\x09")
        catalog.scan()
        assert isinstance(catalog.entries["top.qcow2"].problem, InUseError)
        assert catalog.overlays("base.qcow2") == ("top.qcow2",)


@pytest.mark.parametrize(
    ("folder", "options"), [(".pool", {}), ("pool", {"exclude": ("pool",)}), ("pool", {"include": ("top*",)})]
)
def test_a_backing_file_that_the_search_does_not_reach_stays_listed(
    tmp_path: Path, folder: str, options: dict[str, tuple[str, ...]]
) -> None:
    """Of a folder there whose disk was unmounted no search tells."""
    (tmp_path / folder).mkdir()
    base = f"{folder}/base.qcow2"
    write_blank(tmp_path / base)
    write_blank(tmp_path / "top.qcow2", base, "qcow2")
    with scanned(tmp_path, **options) as catalog:
        assert set(catalog.entries) == {"top.qcow2", base}
        (tmp_path / folder).rename(tmp_path / ".away")
        (tmp_path / folder).mkdir()
        for _ in range(3):
            catalog.scan()
            assert set(catalog.entries) == {"top.qcow2", base}
            assert isinstance(catalog.entries[base].problem, StorageError)
            assert catalog.overlays(base) == ("top.qcow2",)
            assert list(catalog.troubles) == [base]
        shutil.copytree(tmp_path / ".away", tmp_path / folder, dirs_exist_ok=True)
        assert catalog.scan()
        assert catalog.troubles == {}
        (tmp_path / "top.qcow2").unlink()
        assert catalog.scan()
        assert not catalog.entries


def never_seen(tmp_path: Path, *overlays: tuple[str, str, str | None]) -> Catalog:
    """Return the catalog of overlays, each with what it names beneath a trusted folder that holds nothing (yet)."""
    source, pool = tmp_path / "source", tmp_path / "pool"
    source.mkdir()
    pool.mkdir()
    for name, base, stated in overlays:
        write_blank(source / name, f"{pool}/{base}", stated)
    catalog = Catalog(os.fspath(source), trusted=[os.fspath(pool)])
    catalog.scan()
    return catalog


def test_a_base_beneath_a_trusted_folder_is_listed_though_it_was_not_there_when_the_mount_began(tmp_path: Path) -> None:
    """Its disk was not mounted yet: deltas against it must not be missing from the first listing."""
    base = f"@trust{tmp_path}/pool/base.qcow2"
    with closing(never_seen(tmp_path, ("top.qcow2", "base.qcow2", None))) as catalog:
        for _ in range(2):
            assert set(catalog.entries) == {"top.qcow2", base}
            assert isinstance(catalog.entries[base].problem, StorageError)
            assert (catalog.entries[base].format, catalog.entries[base].virtual_size) == ("qcow2", None)
            assert catalog.overlays(base) == ("top.qcow2",)
            assert list(catalog.troubles) == [base]
            assert not catalog.scan()
        write_blank(tmp_path / "pool" / "base.qcow2")
        assert catalog.scan()
        assert catalog.entries[base].problem is None
        assert catalog.troubles == {}


@pytest.mark.parametrize(
    ("base", "stated"), [("base.qed", "qed"), ("link.qcow2", "qcow2"), ("fifo", "qcow2"), (f"{'x' * 256}", "qcow2")]
)
def test_what_was_never_seen_and_may_be_no_image_is_not_listed(tmp_path: Path, base: str, stated: str) -> None:
    with closing(never_seen(tmp_path, ("top.qcow2", base, stated))) as catalog:
        (tmp_path / "pool" / "link.qcow2").symlink_to("elsewhere")
        os.mkfifo(tmp_path / "pool" / "fifo")
        catalog.scan()
        assert set(catalog.entries) == {"top.qcow2"}
        with pytest.raises((ChainError, UnsupportedError)):
            catalog.chain("top.qcow2")


def test_what_was_never_seen_hides_nothing_that_is_there(tmp_path: Path) -> None:
    """An overlay may name anything: a folder in which an image lies, or a place in what is an image."""
    pool = f"@trust{tmp_path}/pool"
    overlays = [
        ("a.qcow2", "folder", "qcow2"),
        ("b.qcow2", "folder/there.qcow2", "qcow2"),
        ("c.qcow2", "free", "qcow2"),
    ]
    with closing(never_seen(tmp_path, *overlays)) as catalog:
        (tmp_path / "pool" / "folder").mkdir()
        write_blank(tmp_path / "pool" / "folder" / "there.qcow2")
        catalog.scan()
        assert set(catalog.entries) == {"a.qcow2", "b.qcow2", "c.qcow2", f"{pool}/folder/there.qcow2", f"{pool}/free"}
        assert set(catalog.troubles) == {f"{pool}/free"}
        with pytest.raises(ChainError, match="its backing file cannot be opened"):
            catalog.chain("a.qcow2")


def test_of_two_that_were_never_seen_and_hide_one_another_the_same_one_is_listed_always(tmp_path: Path) -> None:
    names = [f"{number}{rest}" for number in range(20) for rest in ("", "/in-it")]
    overlays = [(f"{number}.qcow2", name, "qcow2") for number, name in enumerate(names)]
    with closing(never_seen(tmp_path, *overlays)) as catalog:
        pool = f"@trust{tmp_path}/pool/"
        assert {path for path in catalog.entries if path.startswith(pool)} == {pool + name for name in names[1::2]}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_empty_disk_that_takes_the_place_of_another_unseen_is_a_folder_in_trouble(tmp_path: Path) -> None:
    """It gets the same device number, and its root has the same inode number."""
    require_mounting()
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "vdifs-test", str(disk)]
    subprocess.run(mount, check=True)
    try:
        write_blank(disk / "a.qcow2")
        with scanned(tmp_path) as catalog:
            subprocess.run(["umount", disk], check=True)
            subprocess.run(mount, check=True)
            for _ in range(2):
                catalog.scan()
                assert list(catalog.troubles) == ["disk"]
                assert list(catalog.entries) == ["disk/a.qcow2"]
            write_blank(disk / "a.qcow2")
            assert catalog.scan()
            assert catalog.troubles == {}
            (disk / "a.qcow2").unlink()
            assert catalog.scan()
            assert not catalog.entries, "what is removed is gone"
            assert not catalog.troubles
    finally:
        subprocess.run(["umount", disk], check=True)
