"""Chains: looked up from the top down, a shorter backing file reading as zeros beyond its end."""

from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.stated import GRAIN, SECTOR, StatedChain, StatedLayer, rows, stated_chains
from vdifs.chain.open_chain import Chain
from vdifs.errors import ChainError, UnsupportedError
from vdifs.extents import NO_FILE, Extents, Kind
from vdifs.formats.load import Load
from vdifs.ranges import Ranges

Grain = tuple[Kind, int, int]  # kind, layer, host offset


def by_grain(stated: StatedChain, first: int, last: int, layers: slice = slice(None)) -> list[Grain]:
    found: list[Grain] = []
    for start, stop, kind, layer, host in rows(stated.chain.extents(first, last, layers)):
        found += [(kind, layer, host + at if kind == Kind.DATA else host) for at in range(0, stop - start, GRAIN)]
    return found


def by_the_model(stated: StatedChain, layers: slice) -> list[Grain]:
    """Return each grain of the top's disk, of some layers alone."""
    size, first = stated.layers[0].virtual_size, layers.start or 0
    untouched = StatedLayer(((size, Kind.UNALLOCATED, 0),) if size else ())
    found = StatedChain((untouched, *stated.layers[layers])).grains()
    return [(kind, NO_FILE if kind == Kind.UNALLOCATED else layer - 1 + first, host) for kind, layer, host in found]


slices = st.tuples(st.integers(0, 3), st.integers(0, 4)).map(lambda pair: slice(*pair))


@given(stated_chains(), slices)
def test_the_uppermost_layer_that_holds_something_answers(stated: StatedChain, layers: slice) -> None:
    if size := stated.chain.virtual_size:
        assert by_grain(stated, 0, size, layers) == by_the_model(stated, layers)


@given(stated_chains(), st.data())
def test_a_part_of_a_chain_is_a_slice_of_the_whole(stated: StatedChain, data: st.DataObject) -> None:
    grains = stated.chain.virtual_size // GRAIN
    if grains:
        low = data.draw(st.integers(0, grains - 1))
        high = data.draw(st.integers(low + 1, grains))
        whole = by_grain(stated, 0, grains * GRAIN)
        assert by_grain(stated, low * GRAIN, high * GRAIN) == whole[low:high]


@given(stated_chains(), slices)
def test_the_parts_of_a_disk_are_the_disk(stated: StatedChain, layers: slice) -> None:
    parts = list(stated.chain.in_parts(layers))
    ends = [0, *(part.end for part in parts)]
    assert [int(part.start[0]) for part in parts] == ends[:-1]
    assert ends[-1] == stated.chain.virtual_size
    found = [row for part in parts for row in rows(part)]
    if parts:
        assert list(rows(Extents.joined(parts))) == list(rows(stated.chain.extents(0, ends[-1], layers)))
        assert len(found) >= len(parts)


@given(stated_chains(), st.sampled_from([512, 1024, 2048]), st.sampled_from([1, 2, 4]))
def test_parts_begin_at_multiples_of_the_step_and_hold_no_more_than_was_asked_for(
    stated: StatedChain, step: int, times: int
) -> None:
    size = stated.chain.virtual_size
    most = stated.at_once
    for extents in stated.chain.flattening(step=step, grid=step * times).parts(0, size):
        assert extents.start[0] % step == 0
        assert len(extents) <= max(2 * most, 2 * step // GRAIN) + 2


def scattered(number: int, grains: int) -> StatedLayer:
    """Return a layer that holds single grains; number: of its file. Each layer holds twice as many as the one before.

    None of them lie beneath another's.
    """
    every = 64 >> number
    runs = [
        (GRAIN, Kind.DATA, at * GRAIN) if at % every == every // 2 else (GRAIN, Kind.UNALLOCATED, 0)
        for at in range(grains)
    ]
    return StatedLayer(tuple(runs), number)


@pytest.mark.parametrize("depth", [4, 6])
def test_a_part_that_each_of_many_layers_would_cut_again_begins_anew(depth: int) -> None:
    """Where many parts wait already, each within the one before, it is cut so fine that none has to wait in it."""
    grains, most = 1024, 4
    stated = StatedChain(tuple(scattered(number, grains) for number in range(depth)), most)
    assert by_grain(stated, 0, grains * GRAIN) == by_the_model(stated, slice(None))
    parts = list(stated.chain.flattening(step=GRAIN, grid=GRAIN).parts(0, grains * GRAIN))
    assert [int(part.start[0]) for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert list(rows(Extents.joined(parts))) == list(rows(stated.chain.extents(0, grains * GRAIN)))
    assert max(map(len, parts)) <= 2 * most + 2


def test_what_lies_beneath_a_long_run_is_neither_asked_for_nor_a_reason_to_cut() -> None:
    edge, long = 64 * GRAIN, 5000 * GRAIN
    asked = list[tuple[int, int]]()

    class Coarse(StatedLayer):
        """In large clusters."""

        @cached_property
        def load(self) -> Load:
            return Load(self.populated(), 1 << 20)

    class Asked(StatedLayer):
        def extents(self, start: int, end: int) -> Extents:
            asked.append((start, end))
            return super().extents(start, end)

    top = Coarse(((edge, Kind.UNALLOCATED, 0), (long, Kind.DATA, 0), (edge, Kind.UNALLOCATED, 0)))
    base = Asked(((2 * edge + long, Kind.DATA, 0),), number=1)
    (part,) = StatedChain((top, base), at_once=200).chain.in_parts()
    assert asked == [(0, edge), (edge + long, 2 * edge + long)]
    assert [(start, stop, layer) for start, stop, _, layer, _ in rows(part)] == [
        (0, edge, 1),
        (edge, edge + long, 0),
        (edge + long, 2 * edge + long, 1),
    ]


def test_a_chain_with_more_files_than_extents_have_indices_for_is_refused() -> None:
    one = StatedLayer(((SECTOR, Kind.DATA, 0),))
    (member,) = StatedChain((one,)).chain.members
    most = (1 << 15) - 1
    assert len(Chain((replace(member, data=member.data * most),)).data_files) == most
    with pytest.raises(UnsupportedError, match=f"its chain has {most + 1} files: too many"):
        Chain((replace(member, data=member.data * (most + 1)),))


range_lists = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=6)


@given(range_lists)
@example([(0, 5), (5, 9)])
@example([(3, 9), (0, 4), (4, 4), (1, 2)])
def test_a_union_of_ranges_is_the_union_of_their_members(ranges: list[tuple[int, int]]) -> None:
    found = Ranges.union(np.array(ranges, np.int64).reshape(-1, 2)).rows.tolist()
    members = {at for low, high in ranges for at in range(low, high)}
    assert {at for low, high in found for at in range(low, high)} == members
    edges = [edge for pair in found for edge in pair]
    assert edges == sorted(set(edges)), "ranges overlap, touch or are out of order"


@given(stated_chains())
def test_each_member_is_found_by_its_path(stated: StatedChain) -> None:
    chain = stated.chain
    assert [chain.index_of(str(n)) for n in range(len(stated.layers))] == list(range(len(stated.layers)))
    with pytest.raises(ChainError, match="other is not in its chain: give one of its ancestors as base") as caught:
        chain.index_of("other")
    assert caught.value.errno == 22
