"""Chains: looked up from the top down, a shorter backing file reading as zeros beyond its end."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.source.stated import GRAIN, StatedChain, StatedLayer, rows, stated_chains
from vdifs.errors import ChainError
from vdifs.extents import NO_LAYER, Kind
from vdifs.source.chain import union

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
    return [(kind, NO_LAYER if kind == Kind.UNALLOCATED else layer - 1 + first, host) for kind, layer, host in found]


slices = st.tuples(st.integers(0, 3), st.integers(0, 4)).map(lambda pair: slice(*pair))


@given(stated_chains(), slices)
def test_the_uppermost_layer_that_holds_something_answers(stated: StatedChain, layers: slice) -> None:
    if size := stated.chain.virtual_size:
        step = min(stated.chain.max_range, size)
        found: list[Grain] = []
        for start in range(0, size, step):
            found += by_grain(stated, start, min(start + step, size), layers)
        assert found == by_the_model(stated, layers)


@given(stated_chains(), st.data())
def test_a_part_of_a_chain_is_a_slice_of_the_whole(stated: StatedChain, data: st.DataObject) -> None:
    grains = stated.chain.virtual_size // GRAIN
    if grains and stated.chain.max_range > stated.chain.virtual_size:
        low = data.draw(st.integers(0, grains - 1))
        high = data.draw(st.integers(low + 1, grains))
        whole = by_grain(stated, 0, grains * GRAIN)
        assert by_grain(stated, low * GRAIN, high * GRAIN) == whole[low:high]


@given(stated_chains(), slices)
def test_outside_of_the_populated_ranges_there_is_nothing_but_zeros_at_the_end(
    stated: StatedChain, layers: slice
) -> None:
    chain = stated.chain
    ranges, zero_from = chain.populated(layers).tolist(), chain.zero_from(layers)
    for index, (kind, _, _) in enumerate(by_the_model(stated, layers)):
        at = index * GRAIN
        if at >= zero_from:
            assert kind != Kind.UNALLOCATED
        if not any(low <= at < high for low, high in ranges):
            assert kind == (Kind.ZERO if at >= zero_from else Kind.UNALLOCATED)
    assert all(low < high <= chain.virtual_size for low, high in ranges)


range_lists = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=6)


@given(range_lists)
@example([(0, 5), (5, 9)])
@example([(3, 9), (0, 4), (4, 4), (1, 2)])
def test_a_union_of_ranges_is_the_union_of_their_members(ranges: list[tuple[int, int]]) -> None:
    found = union(np.array(ranges, np.int64).reshape(-1, 2)).tolist()
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
