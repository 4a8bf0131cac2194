"""Time stamps that are too young to tell two writes apart (docs/reliability.md): waited for, and looked at again.

The kernel of these tests may give every write another time stamp, so the second write within a tick is played: the file
is changed and its time stamps are set back, of which ctime, which no user can set, is hidden from vdifs.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vdifs
from tests.catalog.test_catalog import scanned
from tests.storage.test_host_file import opened
from tests.support.age import grow_old
from tests.support.builder import write_blank
from tests.support.image_file import Image
from vdifs.errors import InUseError, SourceChangedError
from vdifs.storage import generation
from vdifs.storage.fingerprint import Fingerprint

MS = 1_000_000
S = 1000 * MS
LONG_NS = 60 * S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "image.qcow2"
    write_blank(path)
    return path


@pytest.mark.parametrize(
    ("mtime", "ctime", "now", "left"),
    [
        (0, 0, 20 * MS, 0),
        (0, 0, 19 * MS, MS),
        (0, 0, 0, 20 * MS),
        (0, 5 * MS, 20 * MS, 5 * MS),
        (5 * MS, 0, 20 * MS, 5 * MS),
        (5 * MS, 5 * MS, 0, 25 * MS),
        (900 * MS, 900 * MS, 0, 0),
        (900 * MS, 0, 5 * MS, 15 * MS),
    ],
    ids=["old", "younger", "new", "ctime counts", "mtime counts", "a clock ahead", "the future", "an mtime set ahead"],
)
def test_how_long_a_file_is_racy(mtime: int, ctime: int, now: int, left: int) -> None:
    odd = 1  # no whole second
    assert Fingerprint(1, 2, 3, mtime + odd, ctime + odd).racy_for_ns(now + odd) == left


@pytest.mark.parametrize(
    ("mtime", "ctime", "now", "left"),
    [(0, 0, 19 * MS, 2481 * MS), (0, 0, 2500 * MS, 0), (0, 3 * S, 3 * S, 2500 * MS), (-9 * S, 0, S, 1500 * MS)],
    ids=["new", "old", "ctime counts", "an mtime that was set"],
)
def test_where_time_stamps_are_whole_seconds_that_is_longer(mtime: int, ctime: int, now: int, left: int) -> None:
    assert Fingerprint(1, 2, 3, mtime, ctime).racy_for_ns(now) == left


@pytest.mark.parametrize(
    ("stamp", "racy"),
    [(79 * MS, False), (81 * MS, True), (150 * MS, True), (219 * MS, True), (221 * MS, False)],
    ids=["before", "just before", "meanwhile", "just after", "a clock ahead"],
)
def test_what_changed_while_a_scan_went_on_is_racy(stamp: int, racy: bool) -> None:
    assert Fingerprint(1, 2, 3, 1, stamp + 1).was_racy(100 * MS + 1, 200 * MS + 1) is racy
    assert Fingerprint(1, 2, 3, stamp + 1, 1).was_racy(100 * MS + 1, 200 * MS + 1) is racy


@pytest.fixture
def racy_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, what was just written is racy."""
    monkeypatch.setattr("vdifs.storage.fingerprint.RACY_NS", LONG_NS)


class Clock:
    """The time as the code under test has it: a sleep puts it on, and no test waits. sleeps: the seconds asked for."""

    def __init__(self) -> None:
        self._slept_ns = 0
        self.sleeps: list[float] = []
        self.before_sleeping: Callable[[], object] = lambda: None

    def time_ns(self) -> int:
        return time.time_ns() + self._slept_ns

    def sleep(self, seconds: float) -> None:
        self.before_sleeping()
        self.sleeps.append(seconds)
        self._slept_ns += round(seconds * S)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(generation, "time", clock)
    return clock


@pytest.mark.usefixtures("racy_for_long")
def test_opening_a_racy_file_waits_until_it_is_old(path: Path, clock: Clock) -> None:
    vdifs.open(path).close()
    assert len(clock.sleeps) == 1
    assert 0 < clock.sleeps[0] <= LONG_NS / S
    assert clock.time_ns() - path.stat().st_ctime_ns >= LONG_NS


def test_opening_an_old_file_waits_for_nothing(path: Path, clock: Clock) -> None:
    grow_old()
    vdifs.open(path).close()
    assert clock.sleeps == []


@pytest.mark.usefixtures("racy_for_long")
def test_a_write_while_waiting_is_taken_in(path: Path, clock: Clock) -> None:
    clock.before_sleeping = lambda: os.truncate(path, 1 << 20) if path.stat().st_size != 1 << 20 else None
    file = opened(path)
    file.settle()
    assert (file.size, file.fingerprint.size, file.status.st_size) == (1 << 20,) * 3
    file.check_unchanged()
    file.close()


@pytest.mark.usefixtures("racy_for_long")
def test_a_file_that_never_grows_old_is_refused(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sleep", lambda _: change_in_place(path))
    change_in_place(path)
    file = opened(path)
    with pytest.raises(SourceChangedError, match="kept changing while it was opened"):
        file.settle()
    file.close()
    with pytest.raises(InUseError, match="kept changing while it was opened"):
        vdifs.open(path)


@pytest.mark.usefixtures("racy_for_long")
def test_a_file_whose_metadata_alone_goes_on_changing_is_opened(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a backup that sets attributes all the time: what is proven not to be written needs not be old."""
    monkeypatch.setattr(clock, "sleep", lambda _: path.chmod(path.stat().st_mode ^ 0o040))
    file = opened(path)
    file.watch()
    file.settle()
    file.check_unchanged()
    known = file.fingerprint
    assert known == Fingerprint.of(path.stat())
    assert file.was(known, settled=False)
    assert not file.was(known, settled=True), "a write at this moment might leave these time stamps"
    change_in_place(path)
    with pytest.raises(SourceChangedError):
        file.check_unchanged()
    file.close()


Restamp = Callable[[], None]


@pytest.fixture
def restamped(path: Path, monkeypatch: pytest.MonkeyPatch) -> Restamp:
    """Call it after a change: from then on the file's time stamps look as they did before."""
    before = path.stat()
    of = Fingerprint.of.__func__  # type: ignore[attr-defined] # a class method
    hidden = False

    def look(st: os.stat_result) -> Fingerprint:
        found: Fingerprint = of(Fingerprint, st)
        if hidden and found.ino == before.st_ino:
            return found._replace(mtime_ns=before.st_mtime_ns, ctime_ns=before.st_ctime_ns)
        return found

    def hide() -> None:
        nonlocal hidden
        hidden = True

    monkeypatch.setattr(Fingerprint, "of", look)
    return hide


def change_in_place(path: Path) -> None:
    """Make the disk of a blank image twice as long; the file keeps its length."""
    Image(path).set(size=2 << 20)


@pytest.mark.usefixtures("racy_for_long")
def test_a_scan_reads_a_racy_file_again_though_its_time_stamps_are_the_same(path: Path, restamped: Restamp) -> None:
    with scanned(path.parent) as catalog:
        change_in_place(path)
        restamped()
        assert catalog.scan()
        assert catalog.entries["image.qcow2"].virtual_size == 2 << 20


def test_a_scan_reads_an_old_file_once(path: Path, restamped: Restamp) -> None:
    grow_old()
    with scanned(path.parent) as catalog:
        change_in_place(path)
        restamped()
        assert not catalog.scan(), "the play does not work: this is what the test before is about"


def test_a_mode_that_has_changed_is_seen_though_the_time_stamps_are_the_same(path: Path, restamped: Restamp) -> None:
    path.chmod(0o644)
    grow_old()
    with scanned(path.parent) as catalog:
        path.chmod(0o600)
        restamped()
        catalog.scan()
        assert catalog.entries["image.qcow2"].permissions[0].mode == 0o100
