"""What the data plane leaves to Python: each request gets one answer, whatever happens."""

import errno
import gc
import os
import struct
import weakref
from typing import Any

import trio
import trio.testing

from tests.conftest import ExpectWarning
from vdifs.errors import SourceChangedError, VdifsError
from vdifs.mount.fuse.reads import Reads, Request
from vdifs.mount.serving.rate_limited_log import RateLimitedLog


class Kernel:
    """Stands for the plane: `ask` puts a request, `answers` gets what comes of it."""

    def __init__(self) -> None:
        self.asked = os.eventfd(0, os.EFD_NONBLOCK)
        self.ended = False
        self.answers: dict[int, bytes | int] = {}
        self._waiting: list[Request] = []

    def ask(self, *requests: Request) -> None:
        self._waiting += requests
        os.eventfd_write(self.asked, 1)

    def end(self) -> None:
        self.ended = True
        os.eventfd_write(self.asked, 1)

    def take(self) -> list[Request]:
        os.eventfd_read(self.asked)
        taken, self._waiting = self._waiting, []
        return taken

    def answer(self, unique: int, data: bytes) -> bool:
        assert unique not in self.answers, "answered twice"
        self.answers[unique] = bytes(data)
        return True

    def fail(self, unique: int, error: int) -> bool:
        assert unique not in self.answers, "answered twice"
        self.answers[unique] = error
        return True


class Files:
    """Open files by number: what a read of each does."""

    async def read(self, handle: int, offset: int, length: int) -> bytes:
        match handle:
            case 1:
                return b"x" * length
            case 2:
                raise SourceChangedError("changed", where="a.qcow2")
            case 3:
                raise ZeroDivisionError("planted")
            case _:
                await trio.sleep_forever()
                raise AssertionError

    async def seek(self, handle: int, offset: int, whence: int) -> int:
        if handle == 2:
            raise VdifsError("nothing follows", errno=errno.ENXIO)
        return offset + whence


async def answered(*requests: Request) -> dict[int, bytes | int]:
    kernel, files = Kernel(), Files()
    parts: Any = (kernel, files, RateLimitedLog())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Reads(*parts).answer)
        kernel.ask(*requests)
        with trio.fail_after(5):
            await trio.testing.wait_all_tasks_blocked(0.01)
        kernel.end()
    os.close(kernel.asked)
    return kernel.answers


async def test_data_and_places_are_answered() -> None:
    assert await answered((7, False, 1, 1, 100, 3), (8, True, 1, 1, 4096, os.SEEK_DATA)) == {
        7: b"xxx",
        8: struct.pack("q", 4096 + os.SEEK_DATA),
    }


async def test_errors_of_ours_keep_their_errno() -> None:
    assert await answered((7, False, 1, 2, 0, 1), (8, True, 1, 2, 0, os.SEEK_HOLE)) == {
        7: errno.ESTALE,
        8: errno.ENXIO,
    }


async def test_a_bug_costs_one_eio(expect_warning: ExpectWarning) -> None:
    expect_warning("read failed")
    assert await answered((7, False, 1, 3, 0, 1), (8, False, 1, 1, 0, 1)) == {7: errno.EIO, 8: b"x"}


async def test_one_that_hangs_keeps_no_other_waiting_and_ends_with_the_connection() -> None:
    assert await answered((7, False, 1, 4, 0, 1), (8, False, 1, 1, 0, 1)) == {8: b"x"}


async def test_a_failed_read_leaves_nothing_behind() -> None:
    class Held:
        pass

    class Failing(Files):
        async def read(self, handle: int, offset: int, length: int) -> bytes:
            held = Held()
            left.append(weakref.ref(held))
            raise VdifsError("played", errno=errno.ENOENT)

    left: list[weakref.ref[Held]] = []
    kernel = Kernel()
    parts: Any = (kernel, Failing(), RateLimitedLog())
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Reads(*parts).answer)
            kernel.ask((7, False, 1, 1, 0, 1))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert kernel.answers == {7: errno.ENOENT}
            assert left[0]() is None
            kernel.end()
    finally:
        gc.enable()
        os.close(kernel.asked)


async def test_at_the_end_those_under_way_are_waited_for() -> None:
    kernel, gate = Kernel(), trio.Event()

    class Slow(Files):
        async def read(self, handle: int, offset: int, length: int) -> bytes:
            await gate.wait()
            return b"late"

    parts: Any = (kernel, Slow(), RateLimitedLog())
    reads = Reads(*parts)
    await reads.settled()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads.answer)
        kernel.ask((7, False, 1, 1, 0, 4))
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.05) as early:
            await reads.settled()
        assert early.cancelled_caught
        gate.set()
        await reads.settled()
        assert kernel.answers == {7: b"late"}
        kernel.end()
    os.close(kernel.asked)
