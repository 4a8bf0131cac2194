"""What is told of each image of a source."""

import os
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.builder import make
from vdifs.errors import FormatError
from vdifs.report.list import ListedImage, Listing, image_json, list_source, roots_and_overlays

MIB = 1 << 20


def listing(source: Path) -> Listing:
    return list_source(os.fspath(source), (), "refuse", lambda _: None)


def listed(path: str, backing: str | None = None) -> ListedImage:
    return ListedImage(path, "qcow2", MIB, backing, 0, None)


def test_each_image_has_the_data_that_it_holds_itself(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB)
    oracle.qemu_io("base.qcow2", ["write -P 1 0 128k"], cwd=tmp_path)
    make(tmp_path / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    oracle.qemu_io("top.qcow2", ["write -P 2 64k 64k"], cwd=tmp_path)
    images = listing(tmp_path).images
    assert {path: (image.own_data, image.backing_path) for path, image in images.items()} == {
        "base.qcow2": (128 << 10, None),
        "top.qcow2": (64 << 10, "base.qcow2"),
    }


def test_an_image_that_cannot_be_opened_has_its_problem(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", MIB)
    (tmp_path / "b.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    images = listing(tmp_path).images
    assert images["a.qcow2"].problem is None
    assert isinstance(images["b.qcow2"].problem, FormatError)
    assert images["b.qcow2"].own_data is None


def test_a_snapshot_has_the_time_when_it_was_taken(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", MIB)
    oracle.qemu_img("snapshot", "-c", "s", "a.qcow2", cwd=tmp_path)
    os.utime(tmp_path / "a.qcow2", (0, 5))
    images = listing(tmp_path).images
    assert images["a.qcow2"].modified == 5
    (snapshot,) = oracle.info(tmp_path / "a.qcow2")["snapshots"]
    assert images["a.qcow2@s"].modified == snapshot["date-sec"]


def test_what_is_left_out_is_told_the_worst_first(tmp_path: Path) -> None:
    (tmp_path / "a-link.qcow2").symlink_to("/elsewhere")  # a note
    (tmp_path / "emptied.qcow2").touch()
    found = listing(tmp_path)
    assert found.images == {}
    assert [str(error).partition(": left out")[0] for error in found.left_out] == [
        str(tmp_path / name) for name in ("emptied.qcow2", "a-link.qcow2")
    ]


def test_json_leaves_out_what_is_not_known() -> None:
    unknown = ListedImage("a\udcff", "qcow2", None, None, None, None)
    assert image_json(unknown) == {"name": "a\ufffd", "name_hex": "61ff", "format": "qcow2"}
    error = FormatError("b: damaged")
    known = ListedImage("b", "raw", 512, "a", 7, error, hidden=True, modified=1.5, live=True)
    assert list(image_json(known).items()) == [
        ("name", "b"),
        ("format", "raw"),
        ("virtual-size", 512),
        ("own-data", 7),
        ("backing-name", "a"),
        ("modified", 1.5),
        ("in-use", True),
        ("hidden", True),
        ("problem", str(error)),
    ]


@pytest.mark.parametrize(
    ("backing", "roots"),
    [
        ({"a": None, "b": "a", "c": "a"}, ["a"]),
        ({"a": "elsewhere", "b": "a"}, ["a"]),
        ({"a": "b", "b": "a", "c": "b", "d": None}, ["a", "d"]),
        ({"a": "a"}, ["a"]),
    ],
    ids=["two overlays", "a backing file that is not listed", "a loop", "its own backing file"],
)
def test_every_image_is_reached_once_from_the_roots(backing: dict[str, str | None], roots: list[str]) -> None:
    found, overlays = roots_and_overlays({path: listed(path, below) for path, below in backing.items()})
    assert found == roots
    reached, waiting = list[str](), list(found)
    while waiting:
        reached.append(waiting.pop())
        waiting += overlays[reached[-1]]
    assert sorted(reached) == sorted(backing)
