"""One window: the states of its units and the pieces of its data, against a model byte by byte."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.stated import READ_KINDS, rows
from vdifs.extents import NO_FILE, Extents, Kind
from vdifs.output.granularity import Granularity
from vdifs.output.window import (
    Pieces,
    State,
    by_block,
    stored_blocks,
    stored_pieces,
    unit_states,
)

Byte = tuple[Kind, int, int]
BITS = st.integers(3, 6)


@st.composite
def windows(draw: st.DrawFn) -> Extents:
    """Draw a window of a few hundred bytes that begins at a multiple of 64."""
    origin = draw(st.integers(0, 1 << 40)) * 64
    runs = draw(st.lists(st.tuples(st.integers(1, 40), st.sampled_from(READ_KINDS), st.integers(1, 99)), min_size=1))
    starts = origin + np.cumsum([0, *(length for length, _, _ in runs[:-1])], dtype=np.int64)
    kinds = [kind for _, kind, _ in runs]
    return Extents(
        starts,
        np.array(kinds, np.uint8),
        np.array([NO_FILE if kind == Kind.UNALLOCATED else 0 for kind in kinds], np.int16),
        np.array([host * 1000 if kind >= Kind.DATA else 0 for _, kind, host in runs], np.int64),
        origin + sum(length for length, _, _ in runs),
    )


def by_byte(extents: Extents) -> list[Byte]:
    found: list[Byte] = []
    for start, stop, kind, layer, host in rows(extents):
        found += [(kind, layer, host + at if kind == Kind.DATA else host) for at in range(stop - start)]
    return found


def units_of(extents: Extents, bits: int) -> list[set[Kind]]:
    """Return what kinds each unit touches."""
    kinds = [kind for kind, _, _ in by_byte(extents)]
    return [set(kinds[at : at + (1 << bits)]) for at in range(0, len(kinds), 1 << bits)]


def full_state(kinds: set[Kind]) -> State:
    return State.DATA if kinds & {Kind.DATA, Kind.COMPRESSED} else State.UNALLOCATED


def delta_state(kinds: set[Kind]) -> State:
    if kinds == {Kind.UNALLOCATED}:
        return State.UNALLOCATED
    return State.DATA if kinds & {Kind.DATA, Kind.COMPRESSED} else State.ZERO


def states_of(extents: Extents, bits: int, *, delta: bool) -> "np.typing.NDArray[np.uint8]":
    data = extents.kind >= Kind.DATA
    return unit_states(extents, bits, data, extents.kind != Kind.UNALLOCATED if delta else data)


@given(windows(), BITS)
def test_a_full_image_has_data_where_a_unit_touches_some(extents: Extents, bits: int) -> None:
    states = states_of(extents, bits, delta=False)
    assert states.tolist() == [full_state(kinds) for kinds in units_of(extents, bits)]


@given(windows(), BITS)
def test_a_delta_has_zeros_where_a_unit_holds_zeros_alone_and_nothing_where_it_is_untouched(
    extents: Extents, bits: int
) -> None:
    states = states_of(extents, bits, delta=True)
    assert states.tolist() == [delta_state(kinds) for kinds in units_of(extents, bits)]


state_lists = st.lists(st.sampled_from(State), min_size=1, max_size=40)


@given(state_lists, st.sampled_from([1, 2, 4, 32]))
def test_a_block_is_stored_if_one_of_its_units_is_data(states: list[State], units: int) -> None:
    found = stored_blocks(np.array(states, np.uint8), units)
    assert found.tolist() == [State.DATA in states[at : at + units] for at in range(0, len(states), units)]


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([1, 2, 4, 32]))
def test_units_by_block_are_rows_filled_up_with_false(flags: list[bool], units: int) -> None:
    wanted = [(flags[at : at + units] + [False] * units)[:units] for at in range(0, len(flags), units)]
    assert by_block(np.array(flags, np.bool_), units).tolist() == wanted


def data_region(pieces: Pieces, size: int) -> list[Byte | None]:
    """Return each byte of the data region, None where no piece says anything."""
    region: list[Byte | None] = [None] * size
    columns = (pieces.out, pieces.stop, pieces.kind, pieces.file, pieces.host)
    for out, stop, kind, layer, host in zip(*(column.tolist() for column in columns), strict=True):
        for at in range(out, stop):
            assert region[at] is None, "pieces overlap"
            region[at] = (Kind(kind), layer, host + at - out if kind == Kind.DATA else host)
    return region


@given(windows(), BITS, st.integers(0, 2), st.sampled_from([0, 0, 1, 24]), st.data())
def test_the_pieces_are_the_data_of_the_stored_blocks_each_in_its_place(
    extents: Extents, unit_bits: int, more: int, lead: int, data: st.DataObject
) -> None:
    """In an output that puts `lead` bytes before each block, such as a bitmap."""
    granularity = Granularity(unit_bits, min(unit_bits + more, 6))
    size = 1 << granularity.block_bits
    count = len(units_of(extents, unit_bits))
    states = data.draw(st.lists(st.sampled_from(State), min_size=count, max_size=count))
    stored = stored_blocks(np.array(states, np.uint8), granularity.units_per_block)
    rank: NDArray[np.int64] = np.cumsum(stored) - stored
    pieces = stored_pieces(extents, np.array(states, np.uint8), granularity, rank * (lead + size) + lead)
    wanted: list[Byte | None] = []
    contents = by_byte(extents)
    for block in np.flatnonzero(stored).tolist():
        wanted += [None] * lead
        for at in range(block * size, (block + 1) * size):
            inside = at < len(contents) and states[at >> unit_bits] == State.DATA
            wanted.append(contents[at] if inside and contents[at][0] >= Kind.DATA else None)
    assert data_region(pieces, len(wanted)) == wanted
    assert_sorted_and_apart(pieces)


def assert_sorted_and_apart(pieces: Pieces) -> None:
    edges = np.stack([pieces.out, pieces.stop], 1).reshape(-1)
    assert (np.diff(edges) >= 0).all()
    assert (pieces.out < pieces.stop).all()


@given(windows(), BITS)
def test_a_piece_knows_the_guest_offset_of_its_first_byte(extents: Extents, bits: int) -> None:
    states = states_of(extents, bits, delta=False)
    places = np.arange(len(states)) << bits
    pieces = stored_pieces(extents, states, Granularity(bits, bits), places)
    origin, contents = int(extents.start[0]), by_byte(extents)
    for guest, kind, layer, host in zip(
        pieces.guest.tolist(), pieces.kind.tolist(), pieces.file.tolist(), pieces.host.tolist(), strict=True
    ):
        assert contents[guest - origin] == (kind, layer, host)


@given(windows())
def test_what_holds_bytes_becomes_a_piece_and_nothing_else(extents: Extents) -> None:
    pieces = Pieces.from_extents(extents, extents.start - extents.start[0])
    wanted = [byte if byte[0] >= Kind.DATA else None for byte in by_byte(extents)]
    assert data_region(pieces, len(wanted)) == wanted
