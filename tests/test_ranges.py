"""Ranges: each operation is that of the set of integers that the ranges hold."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vdifs.ranges import Ranges

END = 40
SETS = st.sets(st.integers(0, END - 1))


def ranges_of(held: set[int]) -> Ranges:
    """Return the ranges that hold just these integers."""
    marks = np.array([False, *(at in held for at in range(END)), False])
    return Ranges(np.flatnonzero(marks[1:] != marks[:-1]).astype(np.int64))


def held_by(ranges: Ranges) -> set[int]:
    """Return what the ranges hold, which must keep the law of their class."""
    assert ranges.edges.dtype == np.int64
    assert len(ranges.edges) % 2 == 0
    assert (np.diff(ranges.edges) > 0).all()
    return {at for start, stop in ranges.rows.tolist() for at in range(start, stop)}


@given(SETS, SETS)
def test_what_two_have_in_common_and_not(one: set[int], other: set[int]) -> None:
    assert held_by(ranges_of(one).intersection(ranges_of(other))) == one & other
    assert held_by(ranges_of(one).minus(ranges_of(other))) == one - other


@given(st.lists(st.tuples(st.integers(0, END), st.integers(0, END))))
def test_the_union_of_any(rows: list[tuple[int, int]]) -> None:
    wanted = {at for start, stop in rows for at in range(start, stop)}
    assert held_by(Ranges.union(np.array(rows, np.int64).reshape(-1, 2))) == wanted


@given(SETS, st.integers(0, END - 1), st.integers(1, END))
def test_within_a_range(held: set[int], start: int, length: int) -> None:
    inside = set(range(start, start + length))
    ranges = ranges_of(held)
    assert held_by(ranges.clip(start, start + length)) == held & inside
    assert ranges.first_within(start, start + length) == min(held & inside, default=None)
    apart = ranges.is_apart_from(np.array([start]), np.array([start + length]))
    assert apart.tolist() == [not held & inside]


@given(SETS)
def test_what_is_contained(held: set[int]) -> None:
    assert ranges_of(held).contains(np.arange(END)).tolist() == [at in held for at in range(END)]


@given(SETS, st.integers(0, 4))
def test_larger_and_smaller_units(held: set[int], bits: int) -> None:
    ranges = ranges_of(held)
    assert held_by(ranges.coarser(bits)) == {at >> bits for at in held}
    assert held_by(ranges.finer(bits).coarser(bits)) == held
    assert len(ranges.finer(bits)) == len(ranges) == len(ranges.starts) == len(ranges.stops)
    assert ranges.nbytes == 16 * len(ranges)


def test_nothing_lies_beyond_what_64_bits_hold() -> None:
    ranges = ranges_of({1, 2, 5})
    for low in (1 << 63, (1 << 64) - 1):
        assert not len(ranges.clip(low, low + 8))
    assert held_by(ranges.clip(2, 1 << 64)) == {2, 5}
