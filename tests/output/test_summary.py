"""What is kept of a whole disk, against plain lists of everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.output import summary
from vdifs.output.granularity import Granularity
from vdifs.output.summary import Bits, Counting
from vdifs.output.windows import Windows
from vdifs.ranges import Ranges

flag_lists = st.lists(st.booleans(), max_size=60)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> "object":
    """So that short lists have several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "_BLOCK", 8)
        yield


@given(flag_lists)
def test_rank_counts_the_members_below(flags: list[bool]) -> None:
    bits = Bits(np.array(flags, np.bool_))
    assert bits.count == sum(flags)
    assert [bits.rank(index) for index in range(len(flags))] == [sum(flags[:index]) for index in range(len(flags))]


@given(flag_lists)
def test_rank_may_be_asked_for_the_end(flags: list[bool]) -> None:
    assert Bits(np.array(flags, np.bool_)).rank(len(flags)) == sum(flags)


@given(flag_lists)
def test_select_is_the_inverse_of_rank(flags: list[bool]) -> None:
    bits = Bits(np.array(flags, np.bool_))
    members = [index for index, flag in enumerate(flags) if flag]
    assert [bits.select(rank) for rank in range(len(members))] == members
    assert [bits.rank(member) for member in members] == list(range(len(members)))


@given(flag_lists, st.integers(0, 60), st.integers(0, 60))
def test_between_is_a_slice(flags: list[bool], first: int, last: int) -> None:
    assert Bits(np.array(flags, np.bool_)).between(first, last).tolist() == flags[first:last]


range_lists = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=5)


@given(st.lists(range_lists, max_size=4))
def test_a_table_is_needed_if_that_was_said_once(said: list[list[tuple[int, int]]]) -> None:
    counting = Counting(Granularity(9, 9, 12), 40 << 12)
    wanted = [False] * 40
    for ranges in said:
        rows = np.array([(first, first + count) for first, count in ranges], np.int64).reshape(-1, 2)
        apart = Ranges.union(rows)
        counting.add_tables(apart)
        for first, last in apart.rows.tolist():
            wanted[first:last] = [True] * (last - first)
    tables = counting.finish(Windows(1, 0)).tables
    assert tables.between(0, 40).tolist() == wanted
    assert tables.count == sum(wanted)
