"""What is told of an image file without opening its chain. What the command writes: tests/cli/test_info.py."""

import os
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.builder import make
from vdifs.chain.links import ImageRef
from vdifs.chain.policy import Policy
from vdifs.errors import PolicyError, VdifsError
from vdifs.report.info import Described, describe, describe_chain, info_json

MIB = 1 << 20


def described(image: Path, snapshot: str | None = None) -> Described:
    policy, path = Policy.for_image(os.fspath(image))
    with policy:
        return describe(policy, ImageRef(path, snapshot), image.name)


def described_chain(image: Path) -> list[Described]:
    policy, path = Policy.for_image(os.fspath(image))
    with policy:
        return list(describe_chain(policy, ImageRef(path), image.name))


def test_a_raw_file_has_its_length_and_no_header(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1000))
    image = described(tmp_path / "disk.raw")
    assert (image.format, image.description.virtual_size, image.file_length, image.warnings) == ("raw", 1024, 1000, [])
    assert list(info_json(image)) == [
        "virtual-size", "filename", "format", "actual-size", "dirty-flag", "file-length", "warnings",
    ]  # fmt: skip


def test_a_snapshot_has_the_size_that_the_disk_had(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", MIB)
    oracle.qemu_img("snapshot", "-c", "s", "a.qcow2", cwd=tmp_path)
    oracle.qemu_img("resize", "-q", "a.qcow2", "3M", cwd=tmp_path)
    assert described(tmp_path / "a.qcow2").description.virtual_size == 3 * MIB
    snapshot = described(tmp_path / "a.qcow2", "s")
    assert (snapshot.description.virtual_size, snapshot.description.label) == (MIB, "s")
    assert info_json(snapshot)["snapshot"] == "s"


def test_a_chain_is_told_top_first_each_file_as_its_overlay_names_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub/base.qcow2", MIB)
    make(tmp_path / "top.qcow2", MIB, backing=("sub/base.qcow2", "qcow2"))
    assert [each.name for each in described_chain(tmp_path / "top.qcow2")] == ["top.qcow2", "sub/base.qcow2"]


def test_a_chain_that_goes_round_is_told_to_its_loop(tmp_path: Path) -> None:
    for name, backing in (("a.qcow2", "b.qcow2"), ("b.qcow2", "a.qcow2")):
        oracle.qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", name, "1M", cwd=tmp_path)
    with pytest.raises(VdifsError, match="it is in its own chain"):
        described_chain(tmp_path / "a.qcow2")


def test_a_backing_file_that_may_not_be_opened_is_a_warning_until_its_chain_is_asked_for(tmp_path: Path) -> None:
    words = ("create", "-q", "-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", "a.qcow2", "1M")
    oracle.qemu_img(*words, cwd=tmp_path)
    image = described(tmp_path / "a.qcow2")
    assert isinstance(image.backing_problem, PolicyError)
    assert image.warnings == info_json(image)["warnings"] == [str(image.backing_problem)]
    with pytest.raises(PolicyError):
        described_chain(tmp_path / "a.qcow2")


@pytest.mark.parametrize(("name", "full"), [("b", "folder/b"), ("/x/b", "/x/b"), ("nbd:host", "nbd:host")])
def test_a_backing_file_is_named_as_seen_from_here(name: str, full: str, tmp_path: Path) -> None:
    words = ("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "qcow2", "a.qcow2", "1M")
    oracle.qemu_img(*words, cwd=tmp_path)
    policy, path = Policy.for_image(os.fspath(tmp_path / "a.qcow2"))
    with policy:
        image = describe(policy, ImageRef(path), "folder/a.qcow2")
    assert image.full_backing_name == full
    assert info_json(image)["full-backing-filename"] == full
