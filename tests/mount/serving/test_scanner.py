"""Scanning on demand: never without a request, never twice at once, always again once something is known to be old."""

from threading import Event

import pytest
import trio

from tests.conftest import ExpectWarning
from vdifs.errors import StorageError
from vdifs.mount.serving import scanner as scanner_module
from vdifs.mount.serving.scanner import Scanner
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view import attributes


class Slow:
    """Something to scan. hang: if given, a scan waits for it."""

    def __init__(self) -> None:
        self.scans = 0
        self.hang: Event | None = None
        self.error: Exception | None = None

    def scan(self) -> bool:
        self.scans += 1
        if self.hang is not None:
            self.hang.wait(30)
        if self.error is not None:
            raise self.error
        return True


@pytest.fixture
def source() -> Slow:
    return Slow()


@pytest.fixture
def changes() -> list[int]:
    return []


@pytest.fixture
async def scanner(source: Slow, changes: list[int], nursery: trio.Nursery) -> Scanner:
    tasks = Tasks()
    tasks.start(nursery)
    return Scanner(source, tasks, Threads(2, 5), lambda: changes.append(source.scans))


def test_all_that_a_change_waits_for_is_less_than_a_second() -> None:
    """What the kernel remembers of names, and the age of a tree that no request looks at again."""
    assert scanner_module.MAX_AGE_S + attributes.TIMEOUT_S < 1


async def test_a_young_tree_is_not_scanned_again(
    scanner: Scanner, source: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner_module, "MAX_AGE_S", 60)
    for _ in range(10):
        await scanner.fresh()
    assert source.scans == 0


async def test_an_old_tree_is_scanned_when_a_request_looks(scanner: Scanner, source: Slow, changes: list[int]) -> None:
    await trio.sleep(scanner_module.MAX_AGE_S + 0.05)
    assert source.scans == 0, "no request has looked"
    await scanner.fresh()
    assert source.scans == 1
    assert changes == [1]


async def test_many_who_look_at_once_share_one_scan(scanner: Scanner, source: Slow) -> None:
    scanner.outdated()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(scanner.fresh)
    assert source.scans == 1


async def test_a_change_noticed_during_a_scan_needs_another(scanner: Scanner, source: Slow) -> None:
    scanner.outdated()
    source.hang = Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scanner.fresh)
        await trio.sleep(0.05)
        scanner.outdated()
        source.hang.set()
    await scanner.fresh()
    assert source.scans == 2


async def test_a_source_that_hangs_delays_no_request_for_long(scanner: Scanner, source: Slow) -> None:
    scanner.outdated()
    source.hang = Event()
    try:
        began = trio.current_time()
        with trio.fail_after(20):
            await scanner.fresh()
            assert trio.current_time() - began >= 1, "a scan that is slow is waited for"
            for _ in range(1000):
                await scanner.fresh()
        assert source.scans == 1, "only one thread hangs"
    finally:
        source.hang.set()


async def test_a_failing_scan_is_logged_and_tried_again(
    scanner: Scanner, source: Slow, expect_warning: ExpectWarning
) -> None:
    expect_warning("the source cannot be searched: src: gone")
    source.error = StorageError("src: gone")
    scanner.outdated()
    await scanner.fresh()
    source.error = None
    await trio.sleep(scanner_module.MAX_AGE_S + 0.05)
    await scanner.fresh()
    assert source.scans == 2
