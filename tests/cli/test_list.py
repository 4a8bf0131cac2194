"""`vdifs list`: the chains, the data that each file holds, and what is wrong."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Vdifs, run_process
from tests.support import oracle
from tests.support.builder import make


def listed(vdifs: Vdifs, source: Path) -> dict[str, dict[str, Any]]:
    status, out, err = vdifs("list", source, "--output", "json")
    assert (status, err) == (0, "")
    return {image["name"]: image for image in json.loads(out)}


def chain_in(folder: Path) -> None:
    (folder / "sub").mkdir()
    make(folder / "base.qcow2", 8 << 20)
    oracle.qemu_io("base.qcow2", ["write -P 1 0 1M", "write -z 4M 64k"], cwd=folder)
    make(folder / "monday.qcow2", 8 << 20, backing=("base.qcow2", "qcow2"), cluster_size="4k")
    oracle.qemu_io("monday.qcow2", ["write -P 2 512k 10k"], cwd=folder)
    make(folder / "sub/tuesday.qcow2", 8 << 20, backing=("../monday.qcow2", "qcow2"))


def test_each_image_has_its_sizes_and_its_backing_file(vdifs: Vdifs, tmp_path: Path) -> None:
    chain_in(tmp_path)
    images = listed(vdifs, tmp_path)
    assert set(images) == {"base.qcow2", "monday.qcow2", "sub/tuesday.qcow2"}
    assert images["sub/tuesday.qcow2"]["backing-name"] == "monday.qcow2"
    assert "backing-name" not in images["base.qcow2"]
    for name, image in images.items():
        path = tmp_path / name
        held = sum(extent.end - extent.start for extent in oracle.map_of(path) if extent.depth == 0 and extent.data)
        assert image["own-data"] == held
        assert image["virtual-size"] == oracle.virtual_size(path)
        assert image["modified"] == pytest.approx(path.stat().st_mtime)


def test_the_tree_has_each_image_beneath_its_backing_file(vdifs: Vdifs, tmp_path: Path) -> None:
    chain_in(tmp_path)
    (tmp_path / "alone.raw").write_bytes(bytes(4096))
    for name, age in [("alone.raw", 1), ("base.qcow2", 90), ("monday.qcow2", 3600 * 50), ("sub/tuesday.qcow2", 1e9)]:
        os.utime(tmp_path / name, (0, time.time() - age))
    status, out, err = vdifs("list", tmp_path)
    assert (status, err) == (0, "")
    assert re.sub("[0-9]+ seconds?", "N seconds", out) == (
        "alone.raw  4 KiB, 4 KiB of its own, N seconds old\n"
        "base.qcow2  8 MiB, 1 MiB of its own, N seconds old\n"
        "└── monday.qcow2  8 MiB, 12 KiB of its own, 2 days old\n"
        "    └── sub/tuesday.qcow2  8 MiB, 0 B of its own, 31 years old\n"
    )


def test_a_source_may_be_one_image(vdifs: Vdifs, tmp_path: Path) -> None:
    chain_in(tmp_path)
    assert set(listed(vdifs, tmp_path / "monday.qcow2")) == {"base.qcow2", "monday.qcow2"}


def test_a_problem_is_told_and_hides_no_other_image(vdifs: Vdifs, tmp_path: Path) -> None:
    chain_in(tmp_path)
    (tmp_path / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    oracle.qemu_img(
        "create", "-q", "-u", "-f", "qcow2", "-b", "gone", "-F", "qcow2", "orphan.qcow2", "1M", cwd=tmp_path
    )
    for name, backing in [("a.qcow2", "b.qcow2"), ("b.qcow2", "a.qcow2")]:
        oracle.qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", name, "1M", cwd=tmp_path)
    images = listed(vdifs, tmp_path)
    assert {name for name, image in images.items() if "problem" in image} == {
        "broken.qcow2",
        "orphan.qcow2",
        "a.qcow2",
        "b.qcow2",
    }
    assert str(tmp_path / "gone") in images["orphan.qcow2"]["problem"]
    status, out, _ = vdifs("list", tmp_path)
    assert status == 0
    assert all(out.count(f"{name}  ") == 1 for name in images)


def test_damage_in_a_table_is_a_problem(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    oracle.qemu_io("a.qcow2", ["write -P 1 0 64k"], cwd=tmp_path)
    os.truncate(tmp_path / "a.qcow2", 0x30000 + 8)
    image = listed(vdifs, tmp_path)["a.qcow2"]
    assert "beyond the end of the file" in image["problem"]
    assert "own-data" not in image


def test_no_images_is_said_on_standard_error(vdifs: Vdifs, tmp_path: Path) -> None:
    assert vdifs("list", tmp_path) == (0, "", f"vdifs: {tmp_path}: no images in it\n")
    assert vdifs("list", tmp_path, "--output", "json") == (0, "[]\n", "")


def test_what_is_left_out_is_said_on_standard_error(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    (tmp_path / "emptied.qcow2").touch()
    for name, target in (("link.qcow2", "/elsewhere/x"), ("pool", "/elsewhere/pool"), ("same.qcow2", "a.qcow2")):
        (tmp_path / name).symlink_to(target)
    for options in ((), ("--output", "json")):
        status, out, err = vdifs("list", tmp_path, *options)
        assert (status, out.count("a.qcow2")) == (0, 1)
        assert [line.split(": left out: ")[0] for line in err.splitlines()] == [
            f"vdifs: {tmp_path}/{name}" for name in ("emptied.qcow2", "link.qcow2", "pool", "same.qcow2")
        ]
    for number in range(100):
        (tmp_path / f"{number}.qcow2").touch()
    last = vdifs("list", tmp_path).err.splitlines()[20:]
    assert last == [f"vdifs: {tmp_path}: 84 more left out: see 'vdifs check {tmp_path}'"]


def test_a_problem_of_many_images_is_told_once(vdifs: Vdifs, tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", 1 << 20)
    for name in ("a", "b"):
        make(tmp_path / f"{name}.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
    os.truncate(tmp_path / "base.qcow2", 80)
    out = vdifs("list", tmp_path).out
    assert out.count("the header ends after 80 bytes") == 1
    assert out.count("not served: see base.qcow2") == 2
    assert all("the header ends" in image["problem"] for image in listed(vdifs, tmp_path).values())


def test_a_source_that_is_not_there_is_a_failure(vdifs: Vdifs, tmp_path: Path) -> None:
    status, out, err = vdifs("list", tmp_path / "none")
    assert (status, out) == (1, "")
    assert str(tmp_path / "none") in err


def test_a_name_cannot_move_the_cursor(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\x1b[31m\n\xff[red].qcow2")
    make(tmp_path / name, 1 << 20)
    tree = run_process("list", ".", cwd=tmp_path).stdout
    assert (
        re.sub(b", [0-9]+ seconds? old", b"", tree) == rb"a\x1b[31m\n\udcff[red].qcow2  1 MiB, 0 B of its own" + b"\n"
    )
    (image,) = json.loads(run_process("list", ".", "--output", "json", cwd=tmp_path).stdout)
    assert bytes.fromhex(image["name_hex"]) == os.fsencode(name)
