"""Batches have every cluster with data once, in guest order, and are no longer than asked for."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.qcow2 import COPIED, compressed_entry, words
from vdifs.formats.qcow2.geometry import Geometry
from vdifs.formats.qcow2.packed_tables import PackedTable
from vdifs.output.export.compressing.batches import batches_of

SIZE = 4096
GEOMETRY = Geometry(12, 512 * SIZE)


def table_of(kinds: list[str]) -> PackedTable:
    """Return a table whose plain clusters lie one behind the other, and its packed ones behind those."""
    plain, packed = 0, 100 * SIZE + 300
    entries = []
    for kind in kinds:
        if kind == "plain":
            entries.append(plain + SIZE | COPIED)
            plain += SIZE
        elif kind == "packed":
            entries.append(compressed_entry(packed, 1, 12))
            packed += 1000
        else:
            entries.append(0)
    return PackedTable(words(*entries).ljust(SIZE, b"\0"), 0, GEOMETRY, delta=False)


@given(st.lists(st.sampled_from(["plain", "packed", "nothing"]), max_size=80), st.integers(1, 10 * SIZE))
def test_every_cluster_is_in_one_batch(kinds: list[str], most: int) -> None:
    table = table_of(kinds)
    batches = list(batches_of(table, SIZE, most))
    assert [place for batch in batches for place in batch.places] == [
        place for place, kind in enumerate(kinds) if kind != "nothing"
    ]
    for batch in batches:
        assert {kinds[place] for place in batch.places} == {"packed" if batch.packed else "plain"}
        assert batch.length <= most or len(batch.places) == 1
        assert batch.at[0] == 0
        assert all(at + length <= batch.length for at, length in zip(batch.at, batch.lengths, strict=True))
        offsets = dict(zip(table.places.tolist(), table.offsets.tolist(), strict=True))
        offsets |= dict(zip(table.packed_places.tolist(), table.packed_offsets.tolist(), strict=True))
        assert [batch.offset + at for at in batch.at] == [offsets[place] for place in batch.places]


def test_neighbours_are_read_together() -> None:
    batches = list(
        batches_of(table_of(["plain", "plain", "nothing", "plain", "packed", "packed", "plain"]), SIZE, 1 << 20)
    )
    assert [batch.places for batch in batches] == [[0, 1, 3], [4, 5], [6]]
    assert [len(batch.places) for batch in batches_of(table_of(["plain"] * 7), SIZE, 3 * SIZE)] == [3, 3, 1]
