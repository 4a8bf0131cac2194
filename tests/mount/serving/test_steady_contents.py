"""The status file while it is looked at: its size is that of what is read."""

import pytest

from vdifs.mount.serving.control import steady_contents
from vdifs.mount.serving.control.steady_contents import SteadyContents


class Maker:
    """Makes status that grow by half a sector."""

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self) -> bytes:
        self.made += 1
        return b'"' + b"x" * (256 * self.made) + b'"\n'


async def test_an_open_gets_what_the_size_was_told_of() -> None:
    status = SteadyContents(Maker())
    size = await status.size()
    assert await status.size() == size
    assert len(await status.open()) == size


async def test_each_open_gets_another_state() -> None:
    maker = Maker()
    status = SteadyContents(maker)
    await status.size()
    assert await status.open() != await status.open()
    assert maker.made == 2


async def test_a_promise_does_not_hold_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_contents, "PROMISE_S", 0.0)
    maker = Maker()
    made = SteadyContents(maker)
    await made.size()
    await made.open()
    assert maker.made == 2


async def test_the_size_is_that_of_what_was_opened_last() -> None:
    status = SteadyContents(Maker())
    first, second = await status.open(), await status.open()
    third = await status.open()
    assert len(third) > len(first)
    assert await status.size() == len(third)
    status.close(third)
    assert await status.size() == len(second)
    status.close(b"something else")
    status.close(second)
    assert await status.size() == len(first)


async def test_it_ends_on_a_whole_sector_and_a_newline() -> None:
    status = SteadyContents(Maker())
    for _ in range(5):
        contents = await status.open()
        assert len(contents) % 512 == 0
        assert contents.endswith(b"\n")
        assert contents.rstrip() == contents.rstrip(b" \n")
        status.close(contents)
