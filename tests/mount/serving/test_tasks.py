"""What goes on behind the requests: a bug in one task ends neither the mount nor another."""

import pytest
import trio

from tests.conftest import ExpectWarning
from vdifs.mount.serving.scheduling.tasks import Tasks


async def test_a_bug_in_one_task_is_logged_and_ends_no_other(expect_warning: ExpectWarning) -> None:
    expect_warning("a task of the mount failed")
    done: list[int] = []

    async def task(number: int) -> None:
        await trio.lowlevel.checkpoint()
        if number == 1:
            raise ZeroDivisionError("planted")
        done.append(number)

    async with trio.open_nursery() as nursery:
        tasks = Tasks()
        tasks.start(nursery)
        for number in range(4):
            tasks.spawn(task, number)
        assert done == [], "spawning does not wait"
    assert sorted(done) == [0, 2, 3]


async def test_the_end_of_the_mount_ends_its_tasks() -> None:
    async with trio.open_nursery() as nursery:
        tasks = Tasks()
        tasks.start(nursery)
        tasks.spawn(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_task_before_the_mount_has_begun_is_a_mistake() -> None:
    async def task() -> None:
        raise AssertionError("never started")

    with pytest.raises(AssertionError, match="start"):
        Tasks().spawn(task)
