"""The laws of synthetic files, over chains of stated layers and read back by a reader that knows nothing of vdifs."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.plain_reader import Holds, PlainReader
from tests.support.stated import GRAIN, StatedChain, StatedLayer, stated_chains
from vdifs.chain.flattening import AT_ONCE
from vdifs.extents import Kind
from vdifs.output import granularity
from vdifs.output.protocol import Output, ResolvedSpec
from vdifs.output.qcow2.output import Qcow2Output
from vdifs.output.raw import RawOutput

BITS = st.sampled_from([9, 9, 10, 11, 12])
EXTENDED_BITS = 11
"""With extended entries: subclusters of GRAIN bytes, smaller than any that a real image has."""


@dataclass(frozen=True)
class Case:
    """A chain, the clusters of the output and, for a delta, its base: the index of a layer."""

    stated: StatedChain
    bits: int
    base: int | None
    extended: bool = False

    def output(self) -> Qcow2Output:
        return Qcow2Output(ResolvedSpec(self.stated.chain, self.base, self.bits, self.extended, "base"))

    def below(self) -> bytes:
        """Return the guest contents of the base."""
        return b"" if self.base is None else self.stated.below(self.base).contents()


@st.composite
def cases(draw: st.DrawFn, *, delta: bool) -> Case:
    stated = draw(stated_chains())
    base = draw(st.integers(0, len(stated.layers) - 1)) if delta else None
    if draw(st.booleans()):
        return Case(stated, EXTENDED_BITS, base, extended=True)
    return Case(stated, draw(BITS), base)


fulls, deltas = cases(delta=False), cases(delta=True)


def shrunk_in_the_middle(middle: int, bits: int, at_once: int = AT_ONCE) -> Case:
    """Neither the top of 96 KiB nor the image below it holds anything, but beyond the end of that one all is zeros."""
    top = StatedLayer(((96 << 10, Kind.UNALLOCATED, 0),), 0)
    between = StatedLayer(((middle, Kind.UNALLOCATED, 0),), 1)
    base = StatedLayer(((96 << 10, Kind.DATA, 0),), 2)
    return Case(StatedChain((top, between, base), at_once), bits, 2)


IN_MID_CLUSTER = shrunk_in_the_middle(512, 10)
IN_MID_CLUSTER_OF_SMALL_PARTS = shrunk_in_the_middle(33 << 9, 10, 8)
IN_THE_SECOND_OF_THREE_TABLES = shrunk_in_the_middle(33 << 10, 9, 32)


def read(output: Output, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    output.readinto(offset, memoryview(buffer), wait=True)
    return bytes(buffer)


def whole(output: Output) -> bytes:
    return read(output, 0, output.size)


@given(st.one_of(fulls, deltas))
def test_a_synthetic_file_is_what_the_specification_promises(case: Case) -> None:
    reader = PlainReader(whole(case.output()))
    reader.assert_plain()
    reader.assert_refcounts()
    reader.assert_data_in_guest_order()
    assert reader.cluster_size == 1 << case.bits
    assert reader.virtual_size == case.stated.chain.virtual_size
    assert reader.backing_name == (None if case.base is None else "base")


@given(fulls)
def test_a_full_image_holds_what_the_chain_holds(case: Case) -> None:
    assert PlainReader(whole(case.output())).contents(b"") == case.stated.contents()


@given(deltas)
@example(IN_MID_CLUSTER)
@example(IN_MID_CLUSTER_OF_SMALL_PARTS)
@example(IN_THE_SECOND_OF_THREE_TABLES)
def test_a_delta_on_its_base_holds_what_the_chain_holds(case: Case) -> None:
    assert PlainReader(whole(case.output())).contents(case.below()) == case.stated.contents()


def kinds_by_unit(stated: StatedChain, size: int) -> list[set[Kind]]:
    """Return what kinds each cluster or subcluster of the output touches."""
    kinds, step = stated.kinds(), size // GRAIN
    return [set(kinds[at : at + step]) for at in range(0, len(kinds), step)]


@given(fulls)
def test_a_full_image_has_data_where_the_chain_has_data_and_nowhere_else(case: Case) -> None:
    reader = PlainReader(whole(case.output()))
    kinds = kinds_by_unit(case.stated, reader.unit_size)
    assert [holds for holds, _ in reader.units()] == [
        Holds.DATA if Kind.DATA in among else Holds.NOTHING for among in kinds
    ]


@given(deltas)
@example(IN_MID_CLUSTER)
@example(IN_MID_CLUSTER_OF_SMALL_PARTS)
@example(IN_THE_SECOND_OF_THREE_TABLES)
def test_a_delta_holds_what_lies_above_its_base_and_no_more(case: Case) -> None:
    """Data where there is some above, or where zeros and data from below share a cluster; zeros where all is zeros."""
    assert case.base is not None
    reader = PlainReader(whole(case.output()))
    size = case.stated.chain.virtual_size
    untouched = StatedLayer(((size, Kind.UNALLOCATED, 0),) if size else ())
    above = StatedChain((untouched, *case.stated.layers[: case.base]))
    held, in_all = kinds_by_unit(above, reader.unit_size), kinds_by_unit(case.stated, reader.unit_size)
    assert [holds for holds, _ in reader.units()] == [wanted_of(*pair) for pair in zip(held, in_all, strict=True)]


def wanted_of(held: set[Kind], in_all: set[Kind]) -> Holds:
    if held == {Kind.UNALLOCATED}:
        return Holds.NOTHING
    return Holds.DATA if Kind.DATA in in_all else Holds.ZERO


@given(st.one_of(fulls, deltas), st.data())
def test_any_range_is_a_slice_of_the_whole(case: Case, data: st.DataObject) -> None:
    output = case.output()
    contents = whole(output)
    for _ in range(5):
        start = data.draw(st.integers(0, output.size - 1))
        end = data.draw(st.integers(start + 1, min(output.size, start + 5000)))
        assert read(output, start, end - start) == contents[start:end]


@given(st.one_of(fulls, deltas), st.integers(30, 3000))
def test_reading_in_any_cuts_equals_reading_whole(case: Case, step: int) -> None:
    output = case.output()
    parts = [read(output, at, min(step, output.size - at)) for at in range(0, output.size, step)]
    assert b"".join(parts) == whole(output)


@given(stated_chains(), st.integers(30, 3000))
def test_the_raw_view_is_the_guest_contents_in_any_cuts(stated: StatedChain, step: int) -> None:
    output = RawOutput(ResolvedSpec(stated.chain, None, 9))
    contents = stated.contents()
    assert output.size == len(contents)
    assert whole(output) == contents
    parts = [read(output, at, min(step, output.size - at)) for at in range(0, output.size, step)]
    assert b"".join(parts) == contents


@given(st.one_of(fulls, deltas), st.integers(1, 200), st.sampled_from([4, 8, 32, 8192]))
def test_how_much_is_resolved_at_once_does_not_matter(case: Case, at_once: int, clusters: int) -> None:
    """The bytes are the same whether the disk is one window or many, and wherever they are cut."""

    def in_parts_of(at_once: int, clusters: int) -> bytes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(granularity, "_MOST_BLOCKS", clusters)
            return whole(replace(case, stated=replace(case.stated, at_once=at_once)).output())

    assert in_parts_of(at_once, clusters) == in_parts_of(AT_ONCE, 8192)


@given(st.one_of(fulls, deltas))
def test_what_is_not_empty_is_among_the_regions(case: Case) -> None:
    output = case.output()
    contents, at = whole(output), 0
    for region in output.regions():
        assert not any(contents[at : region.start])
        at = region.stop
    assert not any(contents[at:])


@given(stated_chains(), BITS, BITS)
def test_a_full_image_of_deltas_is_the_full_image(stated: StatedChain, bits: int, other_bits: int) -> None:
    """Each layer is replaced by its own delta against the next; what they hold together stays the same."""
    below = b""
    for depth in reversed(range(len(stated.layers))):
        part = stated.below(depth)
        base = None if depth == len(stated.layers) - 1 else 1
        delta = PlainReader(whole(Case(part, bits if depth % 2 else other_bits, base).output()))
        below = delta.contents(below)
        assert below == part.contents()


@given(stated_chains(), BITS)
def test_the_base_against_itself_holds_nothing(stated: StatedChain, bits: int) -> None:
    reader = PlainReader(whole(Case(stated, bits, 0).output()))
    assert all(holds is Holds.NOTHING for holds, _ in reader.units())
    assert not reader.l2_tables()


@pytest.mark.parametrize("bits", range(9, 22))
def test_an_empty_disk_is_a_file_of_a_few_clusters(bits: int) -> None:
    reader = PlainReader(whole(Case(StatedChain((StatedLayer(()),)), bits, None).output()))
    reader.assert_plain()
    reader.assert_refcounts()
    assert len(reader.file) == 3 << bits
