"""Amounts by window and the sums before them, against plain dictionaries of everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vdifs.output.window_sums import WindowSums, count_by_window
from vdifs.ranges import Ranges


@st.composite
def amounts(draw: st.DrawFn) -> dict[int, int]:
    """Draw how much some windows have; neighbours often have as much, others any number of bytes."""
    windows = sorted(draw(st.sets(st.integers(0, 40), max_size=25)))
    return {window: draw(st.sampled_from([0, 1, 8, 8, 8, 1536, 65537])) for window in windows}


def sums_of(amounts: dict[int, int]) -> WindowSums:
    return WindowSums(np.array([(window, 1, amount) for window, amount in amounts.items()], np.int64).reshape(-1, 3))


UNITS = st.sampled_from([1, 3, 512])


@given(amounts(), UNITS)
def test_the_amount_before_a_window_is_the_sum_of_all_below(amounts: dict[int, int], unit: int) -> None:
    sums = sums_of(amounts).times(unit)
    assert sums.total == unit * sum(amounts.values())
    for window in range(45):
        assert sums.before(window) == unit * sum(amount for below, amount in amounts.items() if below < window)


@given(amounts(), UNITS, st.data())
def test_a_position_is_found_in_the_window_that_has_it(amounts: dict[int, int], unit: int, data: st.DataObject) -> None:
    sums = sums_of(amounts).times(unit)
    start = 0
    for window, amount in amounts.items():
        stop = start + amount * unit
        for position in {start, stop - 1, data.draw(st.integers(start, max(start, stop - 1)))} if amount else ():
            assert sums.find(position) == (window, start, stop)
        start = stop


def test_amounts_in_other_units_leave_the_first_as_they_are() -> None:
    sums = sums_of({3: 8})
    assert sums.times(4).times(2).total == 64
    assert (sums.total, sums.find(7)) == (8, (3, 0, 8))


def test_windows_of_equal_amounts_are_kept_as_one_run() -> None:
    """A full disk of any size takes a few bytes."""
    sums = sums_of(dict.fromkeys(range(10_000), 8192))
    assert sums.nbytes == sums_of({0: 1}).nbytes
    assert sums.find(8192 * 5000 + 1) == (5000, 8192 * 5000, 8192 * 5001)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 30)), max_size=8), st.integers(1, 9), st.integers(0, 5))
def test_ranges_of_blocks_are_counted_by_window(drawn: list[tuple[int, int]], per_window: int, cuts: int) -> None:
    """drawn: the gap before each range, and how many blocks are in it."""
    edges = np.cumsum([each for pair in drawn for each in pair], dtype=np.int64).reshape(-1, 2)
    wanted: dict[int, int] = {}
    for first, last in edges.tolist():
        for block in range(first, last):
            wanted[block // per_window + cuts] = wanted.get(block // per_window + cuts, 0) + 1
    found = {
        first + at: each
        for first, count, each in count_by_window(Ranges.of(edges), per_window, cuts).tolist()
        for at in range(count)
    }
    assert found == wanted
