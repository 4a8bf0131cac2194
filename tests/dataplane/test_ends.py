"""How a plane ends: stopped with and without readers, or because the other side is gone."""

import errno
import gc
import os
import select
import threading
from collections.abc import Callable

import pytest

from tests.dataplane.wired import HANDLE, KEY, LOOKUP, READ, SECONDS, Wired, pieces, read_body, wired
from vdifs.dataplane.attachment import Plane


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def until(happened: Callable[[], bool]) -> None:
    """Wait for what a thread of the plane does."""
    pause = threading.Event()
    for _ in range(SECONDS * 100):
        if happened():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def test_stopping_ends_the_threads_and_closes_the_device() -> None:
    with wired() as plane:
        before = threads()
        plane.plane.stop()
        until(lambda: threads() == before - 3)
        assert plane.kernel.recv(100) == b"", "closed"
        plane.plane.stop()


def test_stopping_with_reads_under_way_and_packets_that_wait_for_libfuse() -> None:
    with wired() as plane:
        for number in range(200):
            plane.send(READ, read_body(HANDLE, number, 100))
            plane.send(LOOKUP, b"x" * 2000)
        plane.plane.stop()
        assert not plane.plane.answer(2, b"late")


def test_several_threads_may_stop_it_at_once() -> None:
    before = threads()
    for _ in range(20):
        with wired() as plane:
            stopping = [threading.Thread(target=plane.plane.stop) for _ in range(4)]
            for thread in stopping:
                thread.start()
            for thread in stopping:
                thread.join()
            until(lambda: threads() == before)


def test_a_plane_starts_once() -> None:
    with wired() as plane:
        before = threads()
        for _ in range(5):
            with pytest.raises(OSError) as caught:
                plane.plane.start()
            assert caught.value.errno == errno.EALREADY
        assert threads() == before
        assert plane.quiet()
        plane.plane.stop()
        with pytest.raises(OSError) as caught:
            plane.plane.start()
        assert caught.value.errno == errno.ENODEV


def test_one_that_never_started_stops() -> None:
    with wired(started=False) as plane:
        assert plane.plane.take() == []
        plane.plane.add(KEY, 10, [(0, 0, 0, 0)], 1)
        plane.plane.publish(KEY, 0, 10, pieces(), 0)
        plane.plane.stop()


def test_calls_after_the_end_are_harmless() -> None:
    with wired() as plane:
        unique = plane.send(READ, read_body(HANDLE, 0, 10))
        plane.asked()
        plane.plane.stop()
        each = plane.plane
        assert not each.answer(unique, b"x")
        assert not each.fail(unique, errno.EIO)
        with pytest.raises(OSError) as caught:
            each.invalidate(5)
        assert caught.value.errno == errno.ENODEV
        assert each.take() == []
        each.add(KEY, 10, [(0, 0, 0, 0)], 1)
        assert each.open(HANDLE, KEY)
        assert each.publish(KEY, 0, 10, pieces(), 0)
        assert each.covers(KEY, 0, 10)
        assert each.restamp(KEY, [(0, 0, 0, 0)])
        assert each.counts(HANDLE) == each.close(HANDLE) == (0, 0, 0)
        each.withdraw(KEY)
        assert each.served == (0, 0)


def test_the_kernel_that_goes_away_ends_it_and_python_is_told() -> None:
    with wired() as plane:
        before = threads()
        plane.kernel.close()
        assert select.select([plane.plane.asked], [], [], SECONDS)[0]
        until(lambda: threads() == before - 3)
        assert plane.plane.ended
        assert plane.plane.take() == []
        assert select.select([plane.plane.asked], [], [], 0)[0], "it stays readable"


def test_libfuse_that_goes_away_ends_it() -> None:
    with wired() as plane:
        plane.libfuse.close()
        until(lambda: plane.plane.ended)
        assert select.select([plane.plane.asked], [], [], SECONDS)[0]


def test_libfuse_that_goes_away_with_packets_unread_ends_it() -> None:
    with wired() as plane:
        for _ in range(500):
            plane.send(LOOKUP, b"x" * 1000)
        plane.libfuse.close()
        until(lambda: plane.plane.ended)


def test_invalidating_writes_the_notification(plane: Wired) -> None:
    plane.plane.invalidate(0x1234)
    told = plane.answer()
    assert told == (0, 2, (0x1234).to_bytes(8, "little") + bytes(16))


def test_no_descriptor_is_left() -> None:
    gc.collect()  # planes of other tests
    before = descriptors()
    with wired() as plane:
        plane.quiet()
        unique = plane.send(READ, read_body(HANDLE, 0, 10))
        assert plane.asked().unique == unique
    del plane
    gc.collect()
    assert descriptors() == before


def test_one_that_has_not_begun_or_begins_twice_is_an_error() -> None:
    raw = Plane.__new__(Plane)
    calls: list[Callable[[], object]] = [
        raw.start, raw.stop, raw.take, lambda: raw.asked, lambda: raw.ended, lambda: raw.served,
        lambda: raw.withdraw(1), lambda: raw.close(1), lambda: raw.counts(1), lambda: raw.open(1, 1),
        lambda: raw.covers(1, 0, 1), lambda: raw.publish_bytes(1, 0, b"x"), lambda: raw.publish(1, 0, 1, pieces(), 0),
        lambda: raw.answer(1, b"x"), lambda: raw.fail(1, 5), lambda: raw.invalidate(1), lambda: raw.restamp(1, []),
        lambda: raw.add(1, 1, [], 0),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match="has not begun"):
            call()
    with wired() as plane:
        with pytest.raises(ValueError, match="has begun already"):
            plane.plane.__init__(0, 0, 0, True)  # type: ignore[misc] # what is tried
        with pytest.raises(ValueError, match="negative"):
            Plane(-1, -1, -1, True)
