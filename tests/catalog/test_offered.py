"""Which snapshots are offered: bounded before a table is read, the same whatever the order, and told."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mount.fakes import entry
from tests.support.image_file import Image
from tests.support.many_snapshots import link, write_l2_tables, write_snapshots
from vdifs.catalog import offered, sniff
from vdifs.catalog.catalog import Catalog
from vdifs.catalog.entry import Entry
from vdifs.catalog.offered import MOST_OFFERED, within_budget
from vdifs.chain.links import ImageRef
from vdifs.formats.qcow2 import format as qcow2
from vdifs.formats.qcow2 import metadata
from vdifs.output.allocation import Allocation
from vdifs.output.opening import OUTPUTS, open_image
from vdifs.output.spec import OutputSpec
from vdifs.storage.fingerprint import Fingerprint


def claiming(path: str, uid: int, count: int) -> Entry:
    made = entry(path)
    return Entry(path, "qcow2", made.fingerprint, uid, 0, (), snapshots=count)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[list[object]]:
    """Give a list that gets longer with each call of a function."""
    calls: list[object] = []
    function = getattr(owner, name)

    def counting(*args: Any, **named: Any) -> Any:
        calls.append(args)
        return function(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, counting)
        yield calls


@contextmanager
def scanned(source: Path) -> Iterator[Catalog]:
    with closing(Catalog(os.fspath(source))) as catalog:
        catalog.scan()
        yield catalog


def wait_until_old(path: Path) -> None:
    """Wait until the time stamps of a file tell its state: one that is younger is read again."""
    while Fingerprint.of(path.stat()).racy_for_ns(time.time_ns()):
        time.sleep(0.005)


claims = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=20).map(
    lambda drawn: [claiming(f"{number:02}", uid, count) for number, (uid, count) in enumerate(drawn)]
)


@given(claims, st.integers(0, 500))
def test_never_more_than_the_budget_and_all_where_they_fit(entries: list[Entry], most: int) -> None:
    chosen = within_budget(entries, most)
    taken = sum(each.snapshots for each in entries if each.path in chosen)
    assert taken <= most
    if sum(each.snapshots for each in entries) <= most:
        assert chosen == {each.path for each in entries}


@given(claims, st.integers(0, 500), st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter(entries: list[Entry], most: int, rng: random.Random) -> None:
    assert within_budget(entries, most) == within_budget(rng.sample(entries, len(entries)), most)


@given(claims, st.integers(0, 500))
def test_an_owner_has_an_equal_share_whatever_the_others_have(entries: list[Entry], most: int) -> None:
    chosen = within_budget(entries, most)
    owners = {each.uid for each in entries}
    for uid in owners:
        own = [each for each in entries if each.uid == uid]
        if sum(each.snapshots for each in own) <= most // len(owners):
            assert all(each.path in chosen for each in own)


def test_the_files_with_the_fewest_come_first() -> None:
    entries = [claiming("a", 0, 60), claiming("b", 0, 30), claiming("c", 0, 20)]
    assert within_budget(entries, 60) == {"b", "c"}


def test_a_file_under_a_thousand_names_is_told_once_and_its_table_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_snapshots(tmp_path / "many.qcow2", MOST_OFFERED + 1)
    link(tmp_path / "many.qcow2", 1000)
    write_snapshots(tmp_path / "other.qcow2", 3)
    with counted(monkeypatch, qcow2, "labels_and_sizes") as read, scanned(tmp_path) as catalog:
        assert len(read) == 1
        assert [path for path in sorted(catalog.entries) if "@" in path] == [f"other.qcow2@s{n:06}" for n in range(3)]
        assert len(catalog.entries) == 1001 + 1 + 3
        (problem,) = [str(each.error) for each in catalog.left_out if each.kind == "too-many-snapshots"]
    assert "0001-many.qcow2 (and 1000 other names of it): its 16385 snapshots are not offered" in problem


def test_where_many_files_have_a_few_they_are_all_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "MOST_OFFERED", 10)
    for number in range(5):
        write_snapshots(tmp_path / f"{number}.qcow2", 32)
    with scanned(tmp_path) as catalog:
        assert len(catalog.entries) == 5 * 33
        assert not catalog.left_out


def test_the_snapshots_of_a_file_are_read_once_for_all_of_its_names_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_snapshots(tmp_path / "disk.qcow2", 5)
    link(tmp_path / "disk.qcow2", 100)
    wait_until_old(tmp_path / "disk.qcow2")
    with counted(monkeypatch, qcow2, "labels_and_sizes") as read, scanned(tmp_path) as catalog:
        assert len(catalog.entries) == 101 * 6
        assert not catalog.scan()
        assert len(read) == 1


def test_a_header_is_read_once_for_all_names_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_snapshots(tmp_path / "disk.qcow2", 1)
    link(tmp_path / "disk.qcow2", 100)
    wait_until_old(tmp_path / "disk.qcow2")
    with counted(monkeypatch, sniff, "_read_metadata") as read, scanned(tmp_path) as catalog:
        assert len(catalog.entries) == 202
        assert len(read) == 1


def test_a_damaged_table_is_the_problem_of_every_name_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_snapshots(tmp_path / "disk.qcow2", 5)
    disk = Image(tmp_path / "disk.qcow2")
    disk.write(disk.get("snapshots_offset") + 36, b"\xff" * 4)
    link(tmp_path / "disk.qcow2", 10)
    wait_until_old(tmp_path / "disk.qcow2")
    with counted(monkeypatch, qcow2, "labels_and_sizes") as read, scanned(tmp_path) as catalog:
        assert [str(each.problem).count("extra data") for each in catalog.entries.values()] == [1] * 11
        assert not catalog.scan()
        assert len(read) == 1


def test_a_file_is_resolved_once_for_each_size_of_blocks_whatever_its_name_and_its_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_l2_tables(tmp_path / "disk.qcow2", 64)
    link(tmp_path / "disk.qcow2", 20)
    with counted(monkeypatch, Allocation, "_summarize") as resolved, scanned(tmp_path) as catalog:
        sizes = set()
        for path in catalog.entries:
            for view in OUTPUTS:
                with open_image(catalog.policy, ImageRef(path), OutputSpec(view)) as image:
                    sizes.add((view, image.size))
        assert len(sizes) == len(OUTPUTS)
        assert len(resolved) == 4, "its own clusters, those of a fixed VHD, blocks of a dynamic one, grains of a VMDK"


def test_snapshots_with_one_l1_table_are_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_snapshots(tmp_path / "disk.qcow2", 50)
    with (
        counted(monkeypatch, Allocation, "_summarize") as resolved,
        counted(monkeypatch, metadata, "each_snapshot") as parsed,
        scanned(tmp_path) as catalog,
    ):
        for each in catalog.entries.values():
            open_image(catalog.policy, ImageRef(each.file_path, each.snapshot), OutputSpec()).close()
        assert len(resolved) == 1
        assert len(parsed) <= 3  # for the names, for the active state, for the places


def test_another_state_of_a_file_is_resolved_anew(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    write_l2_tables(path, 64)
    with scanned(tmp_path) as catalog:
        with open_image(catalog.policy, ImageRef("disk.qcow2"), OutputSpec()) as image:
            before = image.allocated
        path.unlink()
        write_l2_tables(path, 32)
        with open_image(catalog.policy, ImageRef("disk.qcow2"), OutputSpec()) as image:
            assert image.allocated == before // 2
