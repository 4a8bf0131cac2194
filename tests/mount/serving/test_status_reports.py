"""The status file while it is looked at: its size is that of what is read."""

import pytest

from vdifs.mount.serving import status_reports as report
from vdifs.mount.serving.status_reports import Report


class Maker:
    """Makes reports that grow by half a sector."""

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self) -> bytes:
        self.made += 1
        return b'"' + b"x" * (256 * self.made) + b'"\n'


async def test_an_open_gets_what_the_size_was_told_of() -> None:
    report = Report(Maker())
    size = await report.size()
    assert await report.size() == size
    assert len(await report.open()) == size


async def test_each_open_gets_another_state() -> None:
    maker = Maker()
    report = Report(maker)
    await report.size()
    assert await report.open() != await report.open()
    assert maker.made == 2


async def test_a_promise_does_not_hold_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PROMISE_S", 0.0)
    maker = Maker()
    made = Report(maker)
    await made.size()
    await made.open()
    assert maker.made == 2


async def test_the_size_is_that_of_what_was_opened_last() -> None:
    report = Report(Maker())
    first, second = await report.open(), await report.open()
    third = await report.open()
    assert len(third) > len(first)
    assert await report.size() == len(third)
    report.close(third)
    assert await report.size() == len(second)
    report.close(b"something else")
    report.close(second)
    assert await report.size() == len(first)


async def test_it_ends_on_a_whole_sector_and_a_newline() -> None:
    report = Report(Maker())
    for _ in range(5):
        contents = await report.open()
        assert len(contents) % 512 == 0
        assert contents.endswith(b"\n")
        assert contents.rstrip() == contents.rstrip(b" \n")
        report.close(contents)
