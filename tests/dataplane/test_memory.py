"""What may be published is bounded by the memory that it takes, however little there is in each range."""

import os
import socket
from array import array
from collections.abc import Callable

import pytest

from vdifs.dataplane.attachment import Plane

KEY = 1
MOST = 1 << 20
SMALLEST = 512
"""Bytes at least that a range takes, with the objects that hold it."""


def publish_byte(plane: Plane, at: int) -> bool:
    return plane.publish_bytes(KEY, at, b"x")


def publish_zeros(plane: Plane, at: int) -> bool:
    longs, bytes_, shorts = array("q"), array("B"), array("h")
    return plane.publish(KEY, at, at + 1, (longs, longs, longs, bytes_, shorts), 0)


@pytest.mark.parametrize("publish", [publish_byte, publish_zeros])
def test_very_many_small_ranges_take_the_place_of_one_another(publish: Callable[[Plane, int], bool]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        plane = Plane(os.open("/dev/null", os.O_RDWR), ours.detach(), MOST, True)
        count = 4 * MOST // SMALLEST
        plane.add(KEY, 2 * count, [], 0)
        for number in range(count):
            assert publish(plane, 2 * number)
        kept = sum(plane.covers(KEY, 2 * number, 2 * number + 1) for number in range(count))
        assert 0 < kept <= MOST // SMALLEST
        assert plane.covers(KEY, 2 * count - 2, 2 * count - 1), "the newest"
        plane.withdraw(KEY)
        plane.stop()
