"""Every problem of an image with a severity: each made once, and a sound chain that has none."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.catalog.test_offered import counted
from tests.conftest import require_tool
from tests.support import oracle
from tests.support.age import grow_old
from tests.support.builder import CLUSTER, make, rebase
from tests.support.image_file import Image
from tests.support.many_snapshots import write_snapshots
from tests.support.qcow2 import COPIED, HIDDEN
from tests.support.units import MIB
from vdifs.chain.policy import Policy
from vdifs.errors import StorageError
from vdifs.formats.qcow2.file_tables import FileTables
from vdifs.report import audit as reported
from vdifs.report.audit import Problem, Severity, audit

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An overlay with two data clusters, over a base that is full."""
    require_tool("qemu-img")
    require_tool("qemu-io")
    make(tmp_path / "base.qcow2", MIB, "write -P 0xbb 0 1M")
    return make(tmp_path / "image.qcow2", MIB, "write -P 1 0 128k", backing=("base.qcow2", "qcow2"))


def found(image: Image) -> list[tuple[Severity, str]]:
    policy, name = Policy.for_image(os.fspath(image.path))
    with policy:
        problems = audit(policy, name)
    assert all(problem.message.isprintable() for problem in problems)
    return [(problem.severity, problem.kind) for problem in problems]


def test_tables_that_cannot_be_read_are_an_error(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> FileTables:
        raise StorageError("reading at 0x10000 failed", errno=5)

    monkeypatch.setattr(FileTables, "of", fail)
    assert found(image) == [(ERROR, "unreadable")] * 2


def base(image: Image) -> Image:
    return Image(image.path.with_name("base.qcow2"))


def missing_base(image: Image) -> None:
    base(image).path.unlink()


def shrunk(image: Image) -> None:
    make(image.path.with_name("middle.qcow2"), MIB // 2, backing=("base.qcow2", "qcow2"))
    rebase(image, "middle.qcow2")


def truncated(image: Image) -> None:
    os.truncate(image.path, image.data_offset(1))


def data_on_a_table(image: Image) -> None:
    image.set_l2(1, image.l1_entry(0))


def tables_on_one_another(image: Image) -> None:
    image.set_l1(0, image.get("l1_table_offset") | COPIED)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (missing_base, (ERROR, "broken-chain")),
        (lambda image: rebase(image, "image.qcow2"), (ERROR, "broken-chain")),
        (lambda image: rebase(image, "/etc/passwd", "raw"), (ERROR, "not-trusted")),
        (lambda image: image.set(crypt_method=1), (ERROR, "unsupported")),
        (lambda image: image.set(incompatible_features=2), (ERROR, "damaged")),
        (lambda image: base(image).set_l2(3, 0x12345600), (ERROR, "damaged")),
        (truncated, (ERROR, "damaged")),
        (lambda image: image.set(incompatible_features=1), (WARNING, "dirty")),
        (lambda image: rebase(image, "base.qcow2", None), (WARNING, "unstated-format")),
        (shrunk, (WARNING, "shrunk")),
        (data_on_a_table, (WARNING, "overlap")),
        (tables_on_one_another, (WARNING, "overlap")),
        (lambda image: image.set(size=2 * MIB), (NOTE, "shorter")),
        (lambda image: image.set_l2(0, image.l2_entry(0) | 1 << 57), (NOTE, "reserved-bits")),
        (lambda image: rebase(image, "base.qcow2"), None),
    ],
    ids=[
        "missing base", "own base", "unsafe name", "encrypted", "corrupt bit", "damaged base", "cut short", "dirty",
        "unstated format", "shrunk", "data on a table", "table on a table", "shorter base", "reserved bits", "nothing",
    ],
)  # fmt: skip
def test_each_problem_is_found_with_its_severity(
    image: Image, damage: Callable[[Image], object], problem: tuple[Severity, str] | None
) -> None:
    assert found(image) == []
    damage(image)
    assert set(found(image)) == ({problem} if problem else set())


def test_a_hidden_image_that_nothing_is_above_is_worth_a_note(image: Image) -> None:
    hidden = base(image).extensions((HIDDEN, b"\1"))
    assert found(hidden) == [(NOTE, "hidden")]
    assert found(image) == []


def test_clusters_that_are_shared_by_snapshots_are_no_problem(image: Image) -> None:
    oracle.qemu_img("snapshot", "-c", "s", image.path)
    image.io(f"write -P 2 0 {CLUSTER}")
    assert found(image) == []


@pytest.mark.parametrize("broken", [False, True], ids=["damaged", "without its base"])
def test_of_snapshots_that_claim_the_same_is_said_what_is_said_of_each_alone(
    tmp_path: Path, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are opened and looked at once, whatever their number, as long as the file stays as it was."""
    write_snapshots(tmp_path / "image.qcow2", 20)
    image = Image(tmp_path / "image.qcow2").set_l2(1, 0x12345600)
    if broken:
        rebase(image, "gone.qcow2")
    snapshots = [f"s{number:06}" for number in range(20)]
    alone = {snapshot: audit_anew(image, snapshot) for snapshot in snapshots}
    assert all(ERROR in {problem.severity for problem in problems} for problems in alone.values())
    grow_old()
    policy, name = Policy.for_image(os.fspath(image.path))
    with policy, counted(monkeypatch, reported, "each_member") as opened:
        audit(policy, name)
        assert {snapshot: audit(policy, name, snapshot) for snapshot in snapshots} == alone
        assert len(opened) == 1
        image.append(b"x")
        assert audit(policy, name, snapshots[0]) == alone[snapshots[0]]
        assert len(opened) == 2, "the file is another now"


def audit_anew(image: Image, snapshot: str) -> list[Problem]:
    policy, name = Policy.for_image(os.fspath(image.path))
    with policy:
        return audit(policy, name, snapshot)


def test_a_table_that_cannot_be_read_any_more_is_an_error_of_its_state(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails after the image was opened."""

    def fail(*_: object) -> int:
        raise StorageError("reading at 0x30000 failed", errno=5)

    monkeypatch.setattr("vdifs.formats.qcow2.audit.reserved_l1_entries", fail)
    assert found(image) == [(ERROR, "unreadable")] * 2
