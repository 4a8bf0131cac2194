"""Laws of the extents: whatever is done to runs, every byte of the disk keeps its meaning.

The model is a disk byte by byte: for each one its kind, its layer and where it lies in that layer's file.
"""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vdifs.extents import NO_FILE, Extents, Kind, MapKind

Byte = tuple[MapKind, int, int]  # kind, layer, host offset of this very byte, if it has one, or L2 entry (COMPRESSED)

HAVE_OFFSETS = {MapKind.DATA, MapKind.UNALLOCATED_ALLOC, MapKind.ZERO_ALLOC, MapKind.DATA_HOLE, MapKind.ABSENT_ALLOC}

ORIGINS = st.integers(0, 1 << 61)
LENGTHS = st.integers(1, 48)


def bytes_of(extents: Extents) -> list[Byte]:
    """Return what `extents` say, byte by byte."""
    found: list[Byte] = []
    for start, stop, kind, layer, host in rows(extents):
        for at in range(stop - start):
            found.append((kind, layer, host + at if kind in HAVE_OFFSETS else host))
    return found


def rows(extents: Extents) -> list[tuple[int, int, MapKind, int, int]]:
    columns = (extents.start, extents.stop, extents.kind, extents.file, extents.host)
    start, stop, kind, layer, host = (column.tolist() for column in columns)
    return [(a, b, MapKind(k), n, h) for a, b, k, n, h in zip(start, stop, kind, layer, host, strict=True)]


def assert_well_formed(extents: Extents, start: int, end: int) -> None:
    """The promises of the class: four columns of their types, covering [start, end) in runs that are not empty."""
    columns = (extents.start, extents.kind, extents.file, extents.host)
    assert [column.dtype for column in columns] == [np.int64, np.uint8, np.int16, np.int64]
    assert {len(column) for column in columns} == {len(extents)}
    assert (int(extents.start[0]), extents.end) == (start, end)
    assert (extents.length > 0).all()


RESOLVED = st.sampled_from([Kind.UNALLOCATED, Kind.ZERO, Kind.DATA, Kind.COMPRESSED])


@st.composite
def resolved(draw: st.DrawFn, files: int) -> Extents:
    """Draw what a whole chain says of [0, 40)."""
    starts = sorted({0, *draw(st.lists(st.integers(0, 39), max_size=8))})
    kinds = [draw(RESOLVED) for _ in starts]
    file = [NO_FILE if kind == Kind.UNALLOCATED else draw(st.integers(0, files - 1)) for kind in kinds]
    host = [
        draw(st.integers(0, 3)) * 8 + (at if kind == Kind.DATA else 0) for at, kind in zip(starts, kinds, strict=True)
    ]
    host = [place if kind >= Kind.DATA else 0 for place, kind in zip(host, kinds, strict=True)]
    return Extents(
        np.array(starts, np.int64), np.array(kinds, np.uint8), np.array(file, np.int16), np.array(host, np.int64), 40
    )


@given(resolved(3), resolved(2))
def test_what_one_state_holds_that_another_does_not_reads_on_it_as_the_state(image: Extents, base: Extents) -> None:
    """Files 1 and 2 of the image are files 0 and 1 of the base. Held is what is in a file of the image."""
    shared, first = np.array([NO_FILE, 0, 1], np.int16), 3
    found = bytes_of(image.unlike(base, shared, first))
    for own, other, byte in zip(bytes_of(image), bytes_of(base), found, strict=True):
        nothing = own[0] < Kind.DATA and other[0] < Kind.DATA
        same_place = own[0] >= Kind.DATA and other == (own[0], int(shared[own[1]]), own[2])
        if nothing:
            assert byte[:2] == (MapKind.UNALLOCATED, NO_FILE)
        elif same_place:
            assert byte == (own[0], other[1] + first, own[2]), "it is there, in the base"
        elif own[0] < Kind.DATA:
            assert byte == (MapKind.ZERO, 0, 0)
        else:
            assert byte == own


@given(resolved(3))
def test_a_state_holds_nothing_that_it_does_not(image: Extents) -> None:
    found = image.unlike(image, np.arange(3, dtype=np.int16), 3)
    assert ((found.file == NO_FILE) | (found.file >= 3)).all()


@st.composite
def disks(draw: st.DrawFn, start: int, length: int, layer: int) -> Extents:
    """Draw what one layer says of [start, start + length)."""
    found: list[tuple[int, MapKind, int, int]] = []
    at, previous = 0, 0
    while at < length:
        kind = draw(st.sampled_from(MapKind))
        size = min(draw(st.integers(1, 16)), length - at)
        host = 0
        if kind in HAVE_OFFSETS:
            host = previous if draw(st.booleans()) else draw(st.integers(0, 64))
            previous = host + size
        elif kind == MapKind.COMPRESSED:
            host = draw(st.integers(1, 3))
        found.append((start + at, kind, NO_FILE if kind == MapKind.UNALLOCATED else layer, host))
        at += size
    starts, kinds, layers, hosts = zip(*found, strict=True)
    return Extents(
        np.array(starts, np.int64),
        np.array(kinds, np.uint8),
        np.array(layers, np.int16),
        np.array(hosts, np.int64),
        start + length,
    )


@st.composite
def stacks(draw: st.DrawFn, depth: int) -> list[Extents]:
    """Draw `depth` layers of one range."""
    start, length = draw(ORIGINS), draw(LENGTHS)
    return [draw(disks(start, length, layer)) for layer in range(depth)]


def overlaid(top: list[Byte], below: list[Byte]) -> list[Byte]:
    return [b if a[0] == MapKind.UNALLOCATED else a for a, b in zip(top, below, strict=True)]


def test_a_map_has_words_of_its_own_for_what_reads_do_not_tell_apart() -> None:
    assert {kind.name: kind.value for kind in list(MapKind)[: len(Kind)]} == {kind.name: kind.value for kind in Kind}


@given(stacks(2))
def test_overlaying_takes_each_byte_from_below_where_the_top_has_none(layers: list[Extents]) -> None:
    top, below = layers
    result = top.over(below)
    assert bytes_of(result) == overlaid(bytes_of(top), bytes_of(below))
    assert_well_formed(result, int(top.start[0]), top.end)


@given(stacks(3))
def test_overlaying_is_associative(layers: list[Extents]) -> None:
    a, b, c = layers
    left, right = a.over(b).over(c), a.over(b.over(c))
    assert bytes_of(left) == bytes_of(right)
    assert rows(left.merged()) == rows(right.merged())


@given(st.integers(1, 6).flatmap(stacks))
def test_a_stack_is_its_layers_over_one_another(layers: list[Extents]) -> None:
    taken = iter(layers)
    result = Extents.stacked(taken)
    assert_well_formed(result, int(layers[0].start[0]), layers[0].end)
    one_by_one = layers[0]
    for below in layers[1:]:
        one_by_one = one_by_one.over(below)
    assert bytes_of(result) == bytes_of(one_by_one)
    assert rows(result.merged()) == rows(one_by_one.merged())
    needed = layers[: len(layers) - len(list(taken))]
    for count, _ in enumerate(needed[1:], 1):
        above = Extents.stacked(iter(needed[:count]))
        assert above.has(MapKind.UNALLOCATED), "a layer was taken that answers nothing"


@given(stacks(1))
def test_nothing_over_a_range_and_a_range_over_nothing_are_that_range(layers: list[Extents]) -> None:
    (extents,) = layers
    nothing = Extents.uniform(int(extents.start[0]), extents.end, MapKind.UNALLOCATED)
    assert bytes_of(nothing.over(extents)) == bytes_of(extents.over(nothing)) == bytes_of(extents)


@given(stacks(1))
def test_merging_keeps_the_meaning_in_the_fewest_runs(layers: list[Extents]) -> None:
    (extents,) = layers
    merged = extents.merged()
    assert bytes_of(merged) == bytes_of(extents)
    assert_well_formed(merged, int(extents.start[0]), extents.end)
    for (start, stop, kind, layer, host), (_, _, next_kind, next_layer, next_host) in pairwise(rows(merged)):
        continued = host + stop - start if kind in HAVE_OFFSETS else host
        assert (kind, layer, continued) != (next_kind, next_layer, next_host)


@given(stacks(1))
def test_merging_twice_is_merging_once(layers: list[Extents]) -> None:
    (extents,) = layers
    assert rows(extents.merged().merged()) == rows(extents.merged())


@given(stacks(1), st.data())
def test_a_part_of_a_range_is_a_slice_of_it(layers: list[Extents], data: st.DataObject) -> None:
    (extents,) = layers
    origin = int(extents.start[0])
    low = data.draw(st.integers(origin, extents.end - 1))
    high = data.draw(st.integers(low + 1, extents.end))
    part = extents.between(low, high)
    assert bytes_of(part) == bytes_of(extents)[low - origin : high - origin]
    assert_well_formed(part, low, high)


@given(stacks(1), st.data())
def test_cutting_keeps_the_meaning_and_puts_a_boundary_at_every_cut(layers: list[Extents], data: st.DataObject) -> None:
    (extents,) = layers
    inside = st.integers(int(extents.start[0]), extents.end - 1)
    at = sorted(data.draw(st.lists(inside, max_size=8)))
    cut = extents.cut(np.array(at, np.int64))
    assert bytes_of(cut) == bytes_of(extents)
    assert_well_formed(cut, int(extents.start[0]), extents.end)
    assert sorted({*at, *extents.start.tolist()}) == cut.start.tolist()


@given(stacks(1), st.data())
def test_joining_the_parts_of_a_range_gives_the_range(layers: list[Extents], data: st.DataObject) -> None:
    (extents,) = layers
    origin = int(extents.start[0])
    cuts = data.draw(st.sets(st.integers(origin, extents.end), max_size=8))
    edges = sorted({origin, extents.end, *cuts})
    joined = Extents.joined([extents.between(low, high) for low, high in pairwise(edges)])
    assert bytes_of(joined) == bytes_of(extents)
    assert rows(joined.merged()) == rows(extents.merged())
    assert_well_formed(joined, origin, extents.end)


@given(stacks(1), st.sampled_from(MapKind))
def test_a_range_has_the_kinds_that_its_bytes_have(layers: list[Extents], kind: MapKind) -> None:
    (extents,) = layers
    assert extents.has(kind) == any(byte[0] == kind for byte in bytes_of(extents))


@given(stacks(1))
def test_a_run_has_an_offset_if_its_kind_has_one(layers: list[Extents]) -> None:
    (extents,) = layers
    assert extents.has_offset.tolist() == [kind in HAVE_OFFSETS for _, _, kind, _, _ in rows(extents)]


@given(ORIGINS, LENGTHS, st.sampled_from(MapKind))
def test_a_uniform_range_is_one_run(start: int, length: int, kind: MapKind) -> None:
    extents = Extents.uniform(start, start + length, kind, 3, 5)
    assert rows(extents) == [(start, start + length, kind, 3, 5)]
    assert_well_formed(extents, start, start + length)


def test_compressed_neighbours_with_different_entries_stay_apart() -> None:
    left = Extents.uniform(0, 512, MapKind.COMPRESSED, 0, 0x1000)
    right = Extents.uniform(512, 1024, MapKind.COMPRESSED, 0, 0x1200)
    assert len(Extents.joined([left, right])) == 2


def test_data_that_continue_in_another_layer_stay_apart() -> None:
    left = Extents.uniform(0, 512, MapKind.DATA, 0, 0)
    right = Extents.uniform(512, 1024, MapKind.DATA, 1, 512)
    assert len(Extents.joined([left, right])) == 2
