"""Publishing: what is refused, what is kept and for how long, and that nothing is kept afterwards."""

import os
import sys
from array import array
from pathlib import Path

import numpy as np
import pytest

from tests.dataplane.wired import HANDLE, KEY, Asked, Wired, files, pieces, stamp, wired

SIZE = 10_000


@pytest.fixture
def source(plane: Wired) -> Wired:
    """A plane that knows a source of no files but one descriptor that nothing reads."""
    plane.plane.add(KEY, SIZE, [(0, 0, 0, 0), (0, 0, 0, 0)], 1)
    return plane


@pytest.mark.parametrize(
    "unsound",
    [
        ((0, 5, 0, 0), (4, 9, 0, 0)),
        ((5, 9, 0, 0), (0, 3, 0, 0)),
        ((5, 5, 0, 0),),
        ((5, 4, 0, 0),),
        ((-1, 4, 0, 0),),
        ((0, 101, 0, 0),),
        ((0, 1 << 62, 0, 0),),
        ((0, 10, -1, 0),),
        ((0, 10, (1 << 63) - 10, 0),),
        ((0, 10, 0, 1),),
        ((0, 10, 0, -1),),
    ],
    ids="overlapping unsorted empty reversed negative beyond far-beyond host host-too-far file negative-file".split(),
)
def test_unsound_pieces_are_not_kept(source: Wired, unsound: tuple[tuple[int, int, int, int], ...]) -> None:
    arrays = pieces(*unsound)
    before = [sys.getrefcount(each) for each in arrays]
    assert not source.plane.publish(KEY, 0, 100, arrays, 0)
    assert not source.plane.covers(KEY, 0, 1)
    assert [sys.getrefcount(each) for each in arrays] == before


def test_what_goes_beyond_a_source_or_is_of_none_is_not_kept(source: Wired) -> None:
    assert not source.plane.publish(KEY, 0, SIZE + 1, pieces(), 0)
    assert not source.plane.publish(KEY + 1, 0, SIZE, pieces(), 0)
    assert not source.plane.publish_bytes(KEY, SIZE - 9, b"0123456789")
    assert source.plane.publish_bytes(KEY, SIZE - 10, b"0123456789")
    assert not source.plane.covers(KEY + 1, 0, 0)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 5), (5, 4), (0, -1), (-(1 << 63), (1 << 63) - 1)])
def test_a_range_that_is_none_is_an_error(source: Wired, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="a region starts at 0"):
        source.plane.publish(KEY, start, stop, pieces(), 0)


@pytest.mark.parametrize(("start", "data"), [(-1, b"x"), (0, b""), ((1 << 63) - 1, b"x"), ((1 << 63) - 5, b"x" * 100)])
def test_bytes_at_no_place_are_an_error(source: Wired, start: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="a region starts at 0"):
        source.plane.publish_bytes(KEY, start, data)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float64, np.uint64, np.float16, ">i8", ">i2", np.bool_])
def test_an_array_of_another_type_is_an_error(source: Wired, place: int, dtype: str) -> None:
    arrays = list(pieces((0, 5, 0, 0)))
    arrays[place] = arrays[place].astype(dtype)
    before = [sys.getrefcount(each) for each in arrays]
    with pytest.raises(ValueError, match="was expected"):
        source.plane.publish(KEY, 0, 100, (arrays[0], arrays[1], arrays[2], arrays[3], arrays[4]), 0)
    assert [sys.getrefcount(each) for each in arrays] == before


def test_arrays_of_several_lengths_in_steps_or_none_are_errors(source: Wired) -> None:
    out, stop, host, kind, file = pieces((0, 5, 0, 0), (5, 9, 0, 0))
    with pytest.raises(ValueError, match="not of one length"):
        source.plane.publish(KEY, 0, 100, (out, stop, host, kind[:1], file), 0)
    with pytest.raises((ValueError, BufferError)):
        source.plane.publish(KEY, 0, 100, (out[::-1], stop, host, kind, file), 0)
    with pytest.raises(TypeError):
        source.plane.publish(KEY, 0, 100, (out, stop, host, kind), 0)  # type: ignore[arg-type] # what is tried
    with pytest.raises(TypeError):
        source.plane.publish(KEY, 0, 100, (out, stop, host, kind, None), 0)  # type: ignore[arg-type] # the same
    with pytest.raises(ValueError, match="was expected"):
        source.plane.publish_bytes(KEY, 0, array("h", [1, 2]))  # type: ignore[arg-type] # the same
    assert not source.plane.covers(KEY, 0, 1)


def test_a_source_that_is_none_is_an_error(source: Wired) -> None:
    for key, size, count in ((KEY, 5, 0), (2, -1, 0), (2, 5, 3), (2, 5, -1)):
        with pytest.raises(ValueError, match="the source is there already"):
            source.plane.add(key, size, [(0, 0, 0, 0)], count)
    with pytest.raises(TypeError):
        source.plane.add(2, 5, [(0, 0, 0)], 1)  # type: ignore[list-item] # what is tried
    with pytest.raises(TypeError):
        source.plane.add(2, 5, 7, 1)  # type: ignore[arg-type] # what is tried
    source.plane.add(2, 5, [], 0)


def test_a_file_of_a_year_that_nanoseconds_do_not_reach(plane: Wired, tmp_path: Path) -> None:
    for seconds in (10_413_792_000, -1):  # the year 2300, where the file system has it; 1969
        with files(tmp_path, b"x" * 100) as (a,):
            os.utime(a, ns=(0, seconds * 1_000_000_000 + 5))
            plane.plane.add(KEY, 100, [stamp(a)], 1)
            plane.plane.open(HANDLE, KEY)
            plane.plane.publish(KEY, 0, 100, pieces((0, 100, 0, 0)), 0)
            assert plane.served(0, 100, a) == b"x" * 100
            plane.plane.withdraw(KEY)


def test_all_that_was_kept_is_let_go() -> None:
    arrays, data = pieces((0, 5, 0, 0)), b"some bytes that nothing else has" * 10
    before = [sys.getrefcount(each) for each in (*arrays, data)]

    def kept() -> int:
        return sum(sys.getrefcount(each) for each in (*arrays, data)) - sum(before)

    with wired() as plane:
        plane.plane.add(KEY, SIZE, [(0, 0, 0, 0)], 1)
        plane.plane.publish(KEY, 0, 100, arrays, 0)
        plane.plane.publish_bytes(KEY, 100, data)
        assert kept() == 6
        plane.plane.publish(KEY, 50, 60, pieces(), 0)
        assert kept() == 1, "another took the place of the pieces"
        plane.plane.withdraw(KEY)
        assert kept() == 0
        plane.plane.add(KEY, SIZE, [(0, 0, 0, 0)], 1)
        plane.plane.publish(KEY, 0, 100, arrays, 0)
        plane.plane.publish_bytes(KEY, 100, data)
        plane.plane.withdraw(KEY + 1)
        assert kept() == 6
    del plane
    assert kept() == 0, "the plane is gone, and all that it kept"


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    with wired(100_000) as plane, files(tmp_path, b"") as (a,):
        plane.plane.add(KEY, 1 << 20, [stamp(a)], 1)
        plane.plane.add(KEY + 1, 1 << 20, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert plane.plane.publish_bytes(KEY, 0, b"a" * 15_000)
        assert plane.plane.publish_bytes(KEY + 1, 0, b"b" * 15_000)
        assert plane.plane.publish_bytes(KEY, 20_000, b"c" * 20_000)
        assert plane.served(0, 10) == b"a" * 10
        assert plane.plane.publish_bytes(KEY, 60_000, b"d" * 48_000), "makes room for itself"
        assert plane.plane.covers(KEY, 0, 15_000), "it was read"
        assert not plane.plane.covers(KEY + 1, 0, 1)
        assert not plane.plane.publish_bytes(KEY, 200_000, b"e" * 50_001), "more than half of what there is"
        assert plane.plane.covers(KEY, 60_000, 108_000)


def test_regions_of_zeros_take_memory_too() -> None:
    with wired(100_000) as plane:
        plane.plane.add(KEY, 1 << 40, [(0, 0, 0, 0)], 1)
        for number in range(2000):
            plane.plane.publish(KEY, number << 20, (number + 1) << 20, pieces(), 0)
        kept = sum(plane.plane.covers(KEY, number << 20, (number + 1) << 20) for number in range(2000))
        assert 10 < kept < 200
        assert plane.plane.covers(KEY, 1999 << 20, 2000 << 20)


def test_a_plane_that_may_keep_nothing_keeps_nothing() -> None:
    with wired(0) as plane:
        plane.plane.add(KEY, SIZE, [(0, 0, 0, 0)], 1)
        plane.plane.open(HANDLE, KEY)
        assert not plane.plane.publish(KEY, 0, SIZE, pieces(), 0)
        assert isinstance(plane.read(0, 10), Asked)
