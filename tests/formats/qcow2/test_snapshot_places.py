"""Where the snapshots of a file have their tables: read once for all who ask, and only kept for a state that stands."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.catalog.test_offered import counted, wait_until_old
from tests.support.many_snapshots import write_snapshots
from vdifs.formats.image_format import Front
from vdifs.formats.qcow2 import snapshot_places as places
from vdifs.formats.qcow2.metadata import read_header, read_snapshots
from vdifs.formats.qcow2.snapshot_places import check_snapshots, snapshot_places
from vdifs.pace import giving_way
from vdifs.storage.host_file import HostFile

MANY = 1001
"""Snapshots of which reading the table takes its time."""


def opened(path: Path) -> HostFile:
    return HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))


@pytest.fixture(autouse=True)
def nothing_is_known() -> Iterator[None]:
    """Files of other tests may have had the same inode."""
    places._known.clear()
    places._sound.clear()
    yield
    places._known.clear()
    places._sound.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_snapshots(tmp_path / "disk.qcow2", MANY)
    wait_until_old(tmp_path / "disk.qcow2")
    return tmp_path / "disk.qcow2"


def test_each_snapshot_is_found_where_its_entry_says(path: Path) -> None:
    with closing(opened(path)) as file:
        header = read_header(Front(file))
        found = snapshot_places(file, header)
        assert len(found) == MANY
        for each in read_snapshots(file, header):
            place = found.find(each.name)
            assert place is not None
            assert (place.offset, place.entries) == (each.l1_table_offset, each.l1_size)
        assert found.find("s999999") is None
        assert found.find("") is None


@pytest.mark.parametrize("ask", [snapshot_places, check_snapshots])
def test_who_waited_for_a_turn_finds_what_another_read_meanwhile(
    path: Path, ask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names of one file are opened at once: its long table is read for the first of them."""
    assert callable(ask)
    path.with_name("link.qcow2").hardlink_to(path)
    wait_until_old(path)
    turns: list[bool] = []
    with closing(opened(path)) as first, closing(opened(path.with_name("link.qcow2"))) as second:
        header = read_header(Front(first))

        def pause(heavy: bool) -> None:
            turns.append(heavy)
            if len(turns) == 1:  # what comes first while this one waits
                ask(first, header)

        with counted(monkeypatch, places, "each_snapshot_of") as read, giving_way(pause):
            ask(second, header)
            assert turns[0] is True
            assert len(read) == 1
            ask(second, header)
            assert len(read) == 1


@pytest.mark.parametrize("ask", [snapshot_places, check_snapshots])
def test_nothing_is_kept_of_a_state_that_a_write_might_leave_as_it_is(
    path: Path, ask: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(ask)
    with closing(opened(path)) as file, counted(monkeypatch, places, "each_snapshot_of") as read:
        header = read_header(Front(file))
        with monkeypatch.context() as patch:
            patch.setattr(places, "time", SimpleNamespace(time_ns=lambda: file.fingerprint.ctime_ns))
            for times in (1, 2):
                ask(file, header)
                assert len(read) == times
        for _ in range(2):
            ask(file, header)
            assert len(read) == 3


def test_a_table_of_more_snapshots_than_are_kept_in_all_is_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_MOST_KEPT", MANY)
    with closing(opened(path)) as file, counted(monkeypatch, places, "each_snapshot_of") as read:
        header = read_header(Front(file))
        for times in (1, 2):
            assert len(snapshot_places(file, header)) == MANY
            assert len(read) == times
