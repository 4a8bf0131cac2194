"""Threads that work hard take turns: one of them at a time, lane by lane, and none that hangs keeps the others."""

import time
from collections.abc import Callable
from threading import Event, Thread

import pytest
import trio

from tests.mount.mounting import PATIENCE_S, eventually
from vdifs.mount.serving.scheduling.threads import DeadlineError, Threads
from vdifs.mount.serving.scheduling.turns import LOST_S, Turns, Work
from vdifs.pace import give_way

DEVICES = frozenset({1})


def run(work: Work, steps: int, step: Callable[[], object], heavy: bool = True) -> Thread:
    """Start a thread that does `steps` steps of a work."""

    def body() -> None:
        with work.in_thread():
            for _ in range(steps):
                give_way(heavy=heavy)
                step()

    thread = Thread(target=body, daemon=True)
    thread.start()
    return thread


def join(*threads: Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_two_works_never_work_hard_at_once() -> None:
    turns, inside, seen = Turns(), list[int](), list[int]()

    def step() -> None:
        inside.append(1)
        seen.append(len(inside))
        time.sleep(0.002)
        inside.pop()

    join(*(run(Work(turns, lane % 3), 10, step) for lane in range(6)))
    assert set(seen) == {1}


def test_works_of_one_lane_come_one_after_the_other_and_lanes_in_turns() -> None:
    turns, order = Turns(), list[str]()
    first = Event()
    works = {name: Work(turns, name[0]) for name in ("a1", "a2", "b1")}

    def step(name: str) -> None:
        order.append(name)
        first.set()
        time.sleep(0.03)  # longer than a turn

    threads = [run(works["a1"], 6, lambda: step("a1"))]
    first.wait(PATIENCE_S)
    threads += [run(works["a2"], 3, lambda: step("a2")), run(works["b1"], 3, lambda: step("b1"))]
    join(*threads)
    assert "".join(order).rfind("a1") < "".join(order).find("a2"), "one owner's works do not take turns"
    assert "".join(order).find("b1") < "".join(order).rfind("a1"), "another owner's work does not wait for the end"


def test_a_work_that_hangs_keeps_no_other_waiting() -> None:
    turns, stuck, done = Turns(), Event(), list[int]()
    hanging = run(Work(turns, "a"), 1, stuck.wait)
    eventually(lambda: turns.last_sign("a"))
    began = time.monotonic()
    join(run(Work(turns, "a"), 3, lambda: done.append(1)), run(Work(turns, "b"), 3, lambda: done.append(1)))
    assert len(done) == 6
    assert time.monotonic() - began > LOST_S / 2
    stuck.set()
    join(hanging)


def test_light_work_waits_for_no_turn() -> None:
    turns, stuck, done = Turns(), Event(), list[int]()
    hanging = run(Work(turns, "a"), 1, stuck.wait)
    eventually(lambda: turns.last_sign("a"))
    light = Work(turns, "a")
    join(run(light, 3, lambda: done.append(1), heavy=False))
    assert not light.waiting
    assert len(done) == 3
    stuck.set()
    join(hanging)


def test_outside_of_a_mount_no_work_gives_way() -> None:
    give_way(heavy=True)


async def test_who_waits_for_a_turn_does_not_hang(nursery: trio.Nursery) -> None:
    """A work of one owner lasts for longer than the deadline; the next one of the same owner is waited for."""
    threads, done = Threads(4, deadline=0.4), list[str]()

    def long(name: str) -> None:
        for _ in range(40):
            give_way(heavy=True)
            time.sleep(0.02)
        done.append(name)

    async def answer(name: str) -> None:
        await threads.answer_work(threads.work(DEVICES, 1), DEVICES, long, name)

    nursery.start_soon(answer, "first")
    with trio.fail_after(PATIENCE_S):
        await answer("second")
        while len(done) < 2:
            await trio.sleep(0.01)


async def test_who_hangs_is_given_up_at_the_deadline(nursery: trio.Nursery) -> None:
    del nursery
    threads, stuck = Threads(4, deadline=0.2), Event()
    with pytest.raises(DeadlineError), trio.fail_after(PATIENCE_S):
        await threads.answer_work(threads.work(DEVICES, 1), DEVICES, stuck.wait)
    stuck.set()


async def test_an_owner_whose_files_hang_keeps_no_other_owner_waiting(nursery: trio.Nursery) -> None:
    threads, stuck = Threads(2, deadline=PATIENCE_S), Event()
    for _ in range(5):
        nursery.start_soon(threads.run_work, threads.work(DEVICES, 1), stuck.wait)
    await trio.sleep(0.05)
    with trio.fail_after(PATIENCE_S):
        assert await threads.answer_work(threads.work(DEVICES, 2), DEVICES, lambda: "answer") == "answer"
    stuck.set()


async def test_many_heavy_works_of_an_owner_leave_threads_for_light_ones(nursery: trio.Nursery) -> None:
    """Though they are more than there are threads, and their owner and file systems are the same."""
    threads, done, stop = Threads(2, deadline=PATIENCE_S), list[int](), Event()

    def heavy() -> None:
        while not stop.is_set():
            give_way(heavy=True)
            stop.wait(0.02)
        done.append(1)

    for _ in range(6):
        nursery.start_soon(threads.run_work, threads.work(DEVICES, 1), heavy)
    await trio.sleep(0.1)
    with trio.fail_after(PATIENCE_S):
        assert await threads.answer_work(threads.work(DEVICES, 1), DEVICES, lambda: "answer") == "answer"
        assert not done
        stop.set()
        while len(done) < 6:
            await trio.sleep(0.01)


async def test_what_goes_wrong_in_a_work_is_raised(nursery: trio.Nursery) -> None:
    del nursery
    threads = Threads(2, deadline=PATIENCE_S)

    def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await threads.answer_work(threads.work(DEVICES, 2), DEVICES, fail)
