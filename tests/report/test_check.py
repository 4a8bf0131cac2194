"""What is told of the problems of a source: each once, the worst first. Every kind of problem: test_audit.py."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.builder import make
from vdifs.chain.naming import ImageName
from vdifs.errors import FormatError, VdifsError
from vdifs.formats.problems import Problem, Severity, failed
from vdifs.report.check import Checked, check_source, checked_json

MIB = 1 << 20


def check(source: Path) -> tuple[Checked, list[str]]:
    """Return what is found, and what was looked at."""
    looked_at: list[str] = []
    return check_source(ImageName.parse(os.fspath(source)), (), "refuse", looked_at.append), looked_at


def test_images_without_problems_are_counted_and_looked_at_one_by_one(tmp_path: Path) -> None:
    for name in ("a.qcow2", "b.qcow2"):
        make(tmp_path / name, MIB)
    checked, looked_at = check(tmp_path)
    assert (checked, checked.errors) == (Checked(2, ()), 0)
    assert looked_at == ["checking image 1 of 2: a.qcow2", "checking image 2 of 2: b.qcow2"]


def test_a_problem_is_told_once_with_all_images_that_it_keeps(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB)
    for name in ("x.qcow2", "y.qcow2"):
        make(tmp_path / name, MIB, backing=("base.qcow2", "qcow2"))
    (tmp_path / "base.qcow2").unlink()
    (tmp_path / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    checked, _ = check(tmp_path)
    assert [(each.path, each.kind, each.keeps) for each in checked.problems] == [
        ("broken.qcow2", "damaged", ("broken.qcow2",)),
        ("x.qcow2", "broken-chain", ("x.qcow2", "y.qcow2")),
    ]
    assert (checked.images, checked.errors) == (3, 2)


def test_the_worst_is_told_first_and_what_is_left_out_too(tmp_path: Path) -> None:
    make(tmp_path / "z.qcow2", MIB)
    (tmp_path / "z.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    make(tmp_path / "good.qcow2", MIB)
    (tmp_path / "a-link.qcow2").symlink_to("good.qcow2")
    checked, _ = check(tmp_path)
    severities = [each.severity for each in checked.problems]
    assert severities == sorted(severities, key=list(Severity).index)
    assert [each.path for each in checked.problems] == ["z.qcow2", "a-link.qcow2"]
    assert checked.errors == 1


def test_of_a_snapshot_only_that_one_and_its_backing_files_are_looked_at(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB)
    make(tmp_path / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    for name in ("s", "t"):
        oracle.qemu_img("snapshot", "-c", name, "top.qcow2", cwd=tmp_path)
    assert check(tmp_path / "top.qcow2@s")[0] == Checked(2, ())
    assert check(tmp_path / "top.qcow2")[0] == Checked(4, ())


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VdifsError):
        check(tmp_path / "gone")


def test_json_has_each_problem_with_what_to_do() -> None:
    damaged = replace(failed("a\udcff", FormatError("damaged", where="a")), keeps=("a\udcff", "b"))
    note = Problem("c", Severity.NOTE, "in-use", "c: is written")
    value = checked_json(Checked(3, (damaged, note)))
    assert value["images"] == 3
    first, second = value["problems"]
    assert first == {
        "name": "a\ufffd",
        "name_hex": "61ff",
        "severity": "error",
        "kind": "damaged",
        "message": f"a: damaged: {FormatError.remedy}",
        "keeps": [{"name": "a\ufffd", "name_hex": "61ff"}, {"name": "b"}],
    }
    assert list(second.items()) == [
        ("name", "c"), ("severity", "note"), ("kind", "in-use"), ("message", "c: is written"), ("keeps", []),
    ]  # fmt: skip
