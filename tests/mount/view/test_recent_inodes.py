"""How long a number that was told is told once more, without a clock that runs."""

import time
from functools import partial

import pytest

from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.recent_inodes import KEPT_S, LONG_S, LONGEST_S, RecentInodes
from vdifs.storage.fingerprint import Fingerprint

FILE = ImageFile("a.qcow2")
FIRST = (Fingerprint(1, 10, 4096, 100, 100), Fingerprint(1, 11, 8192, 50, 60))
CHOWNED = (FIRST[0], FIRST[1]._replace(ctime_ns=900))


class Clock:
    """What the monotonic clock says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def told(clock: Clock) -> RecentInodes:
    del clock
    told = RecentInodes()
    told.tell(FILE, 7, lambda: FIRST)
    return told


def test_a_number_is_told_again_only_where_ctimes_alone_have_moved(told: RecentInodes) -> None:
    assert told.kept(FILE, 8, lambda: CHOWNED) == 7
    assert told.is_kept(FILE)
    for other in (
        (FIRST[0]._replace(mtime_ns=101), FIRST[1]),
        (FIRST[0], FIRST[1]._replace(ino=12)),
        (FIRST[0], FIRST[1]._replace(size=4096)),
        FIRST[:1],
        (*FIRST, FIRST[1]),
    ):
        told.tell(FILE, 7, lambda: FIRST)
        assert told.kept(FILE, 8, partial(tuple, other)) == 8
        assert told.kept(FILE, 8, lambda: CHOWNED) == 8, "forgotten for good"


def test_it_is_another_once_no_program_has_asked_for_a_moment(told: RecentInodes, clock: Clock) -> None:
    clock.now += KEPT_S - 0.1
    assert told.kept(FILE, 8, lambda: CHOWNED) == 7
    told.tell(FILE, 7, lambda: CHOWNED)
    clock.now += KEPT_S - 0.1
    assert told.kept(FILE, 8, lambda: CHOWNED) == 7
    clock.now += 0.2
    assert told.kept(FILE, 8, lambda: CHOWNED) == 8, "to look is not to ask"


@pytest.mark.parametrize(("every_s", "most_s"), [(1.0, LONG_S), (0.1, LONGEST_S)])
def test_it_is_another_in_the_end_however_often_programs_ask(
    told: RecentInodes, clock: Clock, every_s: float, most_s: float
) -> None:
    begun = clock.now
    while told.kept(FILE, 8, lambda: CHOWNED) == 7:
        told.tell(FILE, 7, lambda: CHOWNED)
        clock.now += every_s
    assert most_s <= clock.now - begun <= most_s + 2 * every_s


def test_a_number_that_moves_at_once_does_so(told: RecentInodes) -> None:
    told.forget(FILE)
    assert told.kept(FILE, 8, lambda: CHOWNED) == 8
    assert not told.is_kept(FILE)
