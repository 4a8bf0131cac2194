"""Synthetic VHDs of real files: what determines their bytes, and which disks they can be of."""

import os
import shutil
from pathlib import Path

import pytest

import vdifs
from tests.support.builder import make, make_raw
from tests.support.stamps import stamped
from vdifs.errors import UsageError
from vdifs.output.view import View

GIB, KIB, MIB = 1 << 30, 1 << 10, 1 << 20
BOTH: list[View] = ["vhd", "vhd-fixed"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """disk.qcow2 on base.raw."""
    folder = tmp_path / "images"
    folder.mkdir()
    make_raw(folder / "base.raw", stamped(0, 5 * MIB, 1))
    make(folder / "disk.qcow2", 5 * MIB + 512, "write -P 7 4M 64k", backing=("base.raw", "raw"))
    return folder


def contents(path: Path, view: View, **options: int) -> bytes:
    with vdifs.open(path, view=view, cluster_size=options.get("cluster_size")) as image:
        return b"".join(image.stream())


@pytest.mark.parametrize("view", BOTH)
def test_a_copy_elsewhere_gives_the_same_bytes_and_another_name_another_uuid(
    folder: Path, tmp_path: Path, view: View
) -> None:
    found = contents(folder / "disk.qcow2", view)
    copy = tmp_path / "elsewhere/copies"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / "disk.qcow2", ns=(1, 1))
    assert contents(copy / "disk.qcow2", view) == found
    assert contents(copy / "disk.qcow2", view, cluster_size=4096) == found
    (copy / "disk.qcow2").rename(copy / "other.qcow2")
    other = contents(copy / "other.qcow2", view)
    assert uuid_of(other) != uuid_of(found)
    assert without_footers(other) == without_footers(found)


def uuid_of(image: bytes) -> bytes:
    return image[-512:][68:84]


def without_footers(image: bytes) -> bytes:
    return image[:-512].removeprefix(image[-512:])


@pytest.mark.parametrize("view", BOTH)
def test_both_views_and_all_states_have_uuids_and_etags_of_their_own(folder: Path, view: View) -> None:
    seen, tags = set(), set()
    for each in BOTH:
        for name in ("disk.qcow2", "base.raw"):
            with vdifs.open(folder / name, view=each) as image:
                seen.add(uuid_of(image.read_at(image.size - 512, 512)))
                tags.add(image.etag)
    with vdifs.open(folder / "disk.qcow2") as image:
        tags.add(image.etag)
    assert (len(seen), len(tags)) == (4, 5)


@pytest.mark.parametrize("view", BOTH)
def test_a_disk_that_a_vhd_cannot_hold_is_refused_by_name_and_the_largest_is_not(tmp_path: Path, view: View) -> None:
    largest, larger = tmp_path / "largest.qcow2", tmp_path / "larger.qcow2"
    make(largest, 2040 * GIB)
    make(larger, 2040 * GIB + 512)
    with vdifs.open(largest, view=view) as image:
        assert image.virtual_size == 2040 * GIB
        assert image.size < 5 * MIB or view == "vhd-fixed"
    with pytest.raises(UsageError) as caught:
        vdifs.open(larger, view=view)
    assert "larger.qcow2" in str(caught.value)
    assert str(caught.value).endswith(
        f"a {view} holds disks of 2,040 GiB at most, and this one has 1.99 TiB (2190433321472 bytes):"
        " take it as a qcow2 or raw"
    )


@pytest.mark.parametrize("view", BOTH)
def test_a_source_that_changes_is_told_whatever_is_read(folder: Path, view: View) -> None:
    for place in (0, 1000, 3 * MIB, -512, -600):
        with vdifs.open(folder / "disk.qcow2", view=view) as image:
            at = place % image.size
            assert image.read_at(at, 512)
            with (folder / "base.raw").open("r+b") as file:
                file.write(b"changed")
            with pytest.raises(vdifs.SourceChangedError):
                image.read_at(at, 512)


@pytest.mark.parametrize("view", BOTH)
def test_it_has_no_base(folder: Path, view: View) -> None:
    with pytest.raises(UsageError, match=f"a {view} view has no base: leave out the base, or ask for a qcow2"):
        vdifs.open(folder / "disk.qcow2", view=view, base=folder / "base.raw")
