"""What is kept of a whole disk, against plain lists and dictionaries of everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.output import summary
from vdifs.output.summary import Bits, Summary
from vdifs.output.windows import Windows
from vdifs.ranges import union

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


@st.composite
def data_clusters(draw: st.DrawFn) -> dict[int, int]:
    """Draw how many data clusters some windows have; neighbours often have as many."""
    windows = sorted(draw(st.sets(st.integers(0, 40), max_size=25)))
    return {window: draw(st.sampled_from([0, 1, 8, 8, 8])) for window in windows}


def summary_of(clusters: dict[int, int]) -> Summary:
    found = Summary(0)
    for window, count in clusters.items():
        found.add_data(np.array([[window, 1, count]], np.int64))
    found.finish(Windows(1, 0))
    return found


@given(data_clusters())
def test_data_before_a_window_is_the_sum_of_all_below(clusters: dict[int, int]) -> None:
    found = summary_of(clusters)
    assert found.data_clusters == sum(clusters.values())
    for window in range(45):
        assert found.data_before(window) == sum(count for below, count in clusters.items() if below < window)


@given(data_clusters())
def test_finding_data_is_the_inverse_of_counting_what_lies_before(clusters: dict[int, int]) -> None:
    found = summary_of(clusters)
    owners = [window for window, count in clusters.items() for _ in range(count)]
    for index, window in enumerate(owners):
        assert found.find_data(index) == (window, found.data_before(window))
        assert found.data_before(window) <= index < found.data_before(window + 1)


def test_windows_of_equal_count_are_kept_as_one_run() -> None:
    """A full disk of any size takes a few bytes."""
    found = summary_of(dict.fromkeys(range(10_000), 8192))
    assert len(found._first) == 1
    assert found.find_data(8192 * 5000 + 1) == (5000, 8192 * 5000)


range_lists = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=5)


@given(st.lists(range_lists, max_size=4))
def test_an_l2_table_is_needed_if_that_was_said_once(said: list[list[tuple[int, int]]]) -> None:
    found = Summary(40)
    wanted = [False] * 40
    for ranges in said:
        apart = union(np.array([(first, first + count) for first, count in ranges], np.int64).reshape(-1, 2))
        found.need_l2(apart)
        for first, last in apart.tolist():
            wanted[first:last] = [True] * (last - first)
    found.finish(Windows(1, 0))
    assert found.l2_tables.between(0, 40).tolist() == wanted
    assert found.l2_tables.count == sum(wanted)
