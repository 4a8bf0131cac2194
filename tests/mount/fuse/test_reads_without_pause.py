"""Reads that come without a pause: each is answered once, and what else the daemon has to do gets its turn."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from tests.mount.mounting import PATIENCE_S
from vdifs.mount.fuse.reads import Reads, Request
from vdifs.mount.serving.rate_limited_log import RateLimitedLog

AT_ONCE = 64


class Kernel:
    """Stands for the plane. Has always AT_ONCE requests under way: each answer brings another.

    most: how many it asks, None for no end. answers: how often each was answered.
    """

    def __init__(self, most: int | None = None) -> None:
        self.asked = os.eventfd(0, os.EFD_NONBLOCK)
        self.ended = False
        self.answers: list[int] = []
        self._most = most
        self._waiting: list[Request] = []
        for _ in range(AT_ONCE):
            self._ask()

    @property
    def answered(self) -> int:
        return sum(self.answers)

    def _ask(self) -> None:
        if self._most is None or len(self.answers) < self._most:
            self._waiting.append((len(self.answers), False, 1, len(self.answers) % 7, 0, 1))
            self.answers.append(0)
            os.eventfd_write(self.asked, 1)

    def take(self) -> list[Request]:
        os.eventfd_read(self.asked)
        taken, self._waiting = self._waiting, []
        return taken

    def answer(self, unique: int, data: bytes) -> bool:
        assert data == b"x"
        self.answers[unique] += 1
        self._ask()
        return True

    def end(self) -> None:
        self.ended = True
        os.eventfd_write(self.asked, 1)


class Files:
    """Every seventh read waits for a thread, all others are answered at once."""

    async def read(self, handle: int, offset: int, length: int) -> bytes:
        if not handle:
            await trio.sleep(0.001)
        return b"x"


@asynccontextmanager
async def asking(kernel: Kernel) -> AsyncIterator[None]:
    task: Any = (kernel, Files(), RateLimitedLog())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Reads(*task).answer)
        yield
        kernel.end()
    os.close(kernel.asked)


async def test_each_is_answered_once() -> None:
    kernel = Kernel(5000)
    async with asking(kernel):
        with trio.fail_after(PATIENCE_S):
            while kernel.answered < 5000:
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)  # for one that would be answered twice
    assert kernel.answers == [1] * 5000


async def test_others_get_their_turn_while_they_never_end() -> None:
    kernel = Kernel()
    async with asking(kernel):
        while kernel.answered < AT_ONCE:
            await trio.sleep(0)
        for _ in range(100):
            before = kernel.answered
            await trio.sleep(0)
            assert kernel.answered - before <= 2 * AT_ONCE
        before = kernel.answered
        with trio.fail_after(PATIENCE_S):
            for _ in range(10):
                await trio.sleep(0.001)
        assert kernel.answered > before
