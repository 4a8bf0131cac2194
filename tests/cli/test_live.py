"""Every command, asked about an image that a virtual machine is writing: one line, unless `--live allow` is given."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Vdifs
from tests.support.builder import make
from tests.support.units import MIB
from tests.support.writers import qemu_io

REFUSAL = "disk.qcow2: a virtual machine or another program is writing it: wait for its end, or have it served as it is"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An image that is being written, on base.qcow2."""
    make(tmp_path / "base.qcow2", MIB, "write -P 1 0 64k")
    make(tmp_path / "disk.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    with qemu_io(tmp_path / "disk.qcow2"):
        yield tmp_path / "disk.qcow2"


@pytest.mark.parametrize("words", [["map"], ["measure"], ["export", "OUTPUT"]], ids=lambda words: words[0])
def test_what_reads_an_image_is_refused(vdifs: Vdifs, disk: Path, words: list[str]) -> None:
    command, *rest = [str(disk.with_name("out")) if word == "OUTPUT" else word for word in words]
    ended = vdifs(command, disk, *rest)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"vdifs: {disk.parent}/{REFUSAL}")
    assert ended.err.count("\n") == 1
    assert not disk.with_name("out").exists()
    assert vdifs(command, disk, *rest, "--live", "allow").status == 0
    assert vdifs(command, disk.with_name("base.qcow2"), *rest, *["--force"] * bool(rest)).status == 0


def test_check_notes_it_and_finds_nothing_wrong(vdifs: Vdifs, disk: Path) -> None:
    """A nightly check of a host with running machines ends with 0."""
    ended = vdifs("check", disk.parent, "--output", "json")
    assert ended.status == 0
    (problem,) = json.loads(ended.out)["problems"]
    assert (problem["name"], problem["severity"], problem["kind"]) == ("disk.qcow2", "note", "in-use")
    assert problem["keeps"] == [{"name": "disk.qcow2"}]
    status, out, err = vdifs("check", disk.parent)
    assert (status, out.splitlines()[-1], err) == (0, "2 images, 0 errors", "")
    assert out.startswith(f"note: {disk.parent}/{REFUSAL}")
    allowed = vdifs("check", disk.parent, "--output", "json", "--live", "allow")
    assert (allowed.status, json.loads(allowed.out)["problems"]) == (0, [])


def test_list_shows_it_with_its_size_and_why(vdifs: Vdifs, disk: Path) -> None:
    listed = {each["name"]: each for each in json.loads(vdifs("list", disk.parent, "--output", "json").out)}
    assert REFUSAL in listed["disk.qcow2"]["problem"]
    assert listed["disk.qcow2"]["virtual-size"] == MIB
    assert listed["disk.qcow2"]["backing-name"] == "base.qcow2"
    assert "problem" not in listed["base.qcow2"]
    allowed = json.loads(vdifs("list", disk.parent, "--output", "json", "--live", "allow").out)
    assert not any("problem" in each for each in allowed)


def test_list_marks_it_whether_it_would_be_served_or_not(vdifs: Vdifs, disk: Path) -> None:
    for options in ([], ["--live", "allow"]):
        images = json.loads(vdifs("list", disk.parent, "--output", "json", *options).out)
        assert {each["name"]: each.get("in-use", False) for each in images} == {"base.qcow2": False, "disk.qcow2": True}
        lines = vdifs("list", disk.parent, *options).out.splitlines()
        assert ["  in use" in line for line in lines] == [False, True]


def test_who_only_reads_an_image_is_not_using_it(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "disk.qcow2", MIB, "write -P 1 0 64k")
    with qemu_io(tmp_path / "disk.qcow2", "-r"):
        (image,) = json.loads(vdifs("list", tmp_path, "--output", "json").out)
    assert "in-use" not in image


def test_info_reads_the_header_alone_and_so_needs_no_leave(vdifs: Vdifs, disk: Path) -> None:
    assert json.loads(vdifs("info", disk, "--output", "json").out)["virtual-size"] == MIB
