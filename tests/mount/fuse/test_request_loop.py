"""Requests taken in a row: none lost, none read twice, none waited for by a blocking read, and timers still run.

A pair of sockets stands for /dev/fuse, the loop below for that of pyfuse3, which waits and reads in the same way.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator
from statistics import median

import pytest
import trio

from vdifs.mount.fuse.request_loop import _LONGEST_S, _RequestLock

Handler = Callable[[int], Awaitable[None]]


@pytest.fixture
def device() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The kernel's end and the daemon's."""
    kernel, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon.setblocking(False)  # a read that would block raises
    kernel.setblocking(False)
    with kernel, daemon:
        yield kernel, daemon


async def serve(daemon: socket.socket, turn: _RequestLock, handle: Handler) -> None:
    """Take requests until an empty one comes."""
    while True:
        async with turn:
            await turn.wait_readable(daemon.fileno())
        request = daemon.recv(8)
        if not request:
            return
        await handle(int.from_bytes(request, "big"))


def test_every_request_is_handled_once_whoever_takes_it(device: tuple[socket.socket, socket.socket]) -> None:
    kernel, daemon = device
    handled: list[int] = []

    async def handle(number: int) -> None:
        handled.append(number)
        if number % 7 == 0:
            await trio.sleep(0.001)  # one that needs a thread

    async def main() -> None:
        turn = _RequestLock()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(serve, daemon, turn, handle)
            for number in range(2000):
                await trio.lowlevel.wait_writable(kernel)
                kernel.send(number.to_bytes(8, "big"))
            with trio.fail_after(60):
                while len(handled) < 2000:
                    await trio.sleep(0.01)
            await trio.sleep(0.1)  # for those that would be handled twice
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert sorted(handled) == list(range(2000))


def test_requests_that_wait_are_taken_without_the_event_loop(device: tuple[socket.socket, socket.socket]) -> None:
    kernel, daemon = device
    waits = 0
    done: list[int] = []

    class Instrument(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            nonlocal waits
            waits += 1

    async def handle(number: int) -> None:
        done.append(number)

    async def main() -> None:
        turn = _RequestLock()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(serve, daemon, turn, handle)
            await trio.sleep(0.05)
            for number in range(100):
                kernel.send(number.to_bytes(8, "big"))
            trio.lowlevel.add_instrument(Instrument())
            while len(done) < 100:
                await trio.sleep(0)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert done == list(range(100))
    assert waits < 30


def test_others_get_their_turn_while_requests_never_end(device: tuple[socket.socket, socket.socket]) -> None:
    kernel, daemon = device

    async def handle(_: int) -> None:
        kernel.send(b"again")  # there is always another

    async def main() -> list[float]:
        turn, turns = _RequestLock(), list[float]()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(serve, daemon, turn, handle)
            kernel.send(b"first")
            await trio.sleep(0.05)
            for _ in range(21):
                start = trio.current_time()
                await trio.sleep(0)
                turns.append(trio.current_time() - start)
            nursery.cancel_scope.cancel()
        return turns

    assert median(trio.run(main)) < 10 * _LONGEST_S


def test_who_slept_reads_nothing_when_another_took_the_request(device: tuple[socket.socket, socket.socket]) -> None:
    """One request comes as one task ends another and the second wakes: both are about to run, in either order."""
    kernel, daemon = device
    gate = trio.Event()
    handled = 0

    async def handle(_: int) -> None:
        nonlocal gate, handled
        handled += 1
        if handled % 2:
            await gate.wait()
            gate = trio.Event()

    async def main() -> None:
        turn = _RequestLock()
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(serve, daemon, turn, handle)
            for _ in range(100):
                kernel.send(b"first")
                while not handled % 2:
                    await trio.sleep(0)
                turn._row_ends = trio.current_time() + 1000
                kernel.send(b"second")
                gate.set()
                while handled % 2:
                    await trio.sleep(0)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert handled == 200
