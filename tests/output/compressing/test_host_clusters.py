"""Each host cluster is given away once, packed clusters lie apart, the refcounts are those that QEMU would count."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.errors import UsageError
from vdifs.output.export.compressing import host_clusters
from vdifs.output.export.compressing.host_clusters import HostClusters, LastTables, Write

SIZE = 512
PER_BLOCK = SIZE // 2
WHOLE = SIZE
"""In a list of lengths: a cluster that is not packed."""


class Filled:
    """A file for which places were asked: one for each of `lengths`, with WHOLE for a host cluster of its own."""

    def __init__(self, lengths: Sequence[int], l1_clusters: int = 1) -> None:
        hosts = HostClusters(SIZE)
        self.places = [(hosts.whole() if length == WHOLE else hosts.packed(length), length) for length in lengths]
        blocks = hosts.complete_blocks()
        self.tables, last = hosts.finish(l1_clusters)
        self.writes = [*blocks, *last]
        self.l1_clusters = l1_clusters

    def told(self) -> dict[int, int]:
        """Return the refcounts in the file, by host cluster; those that are 0 left out."""
        written = {write.offset: write.data for write in self.writes}
        entries = np.frombuffer(written[self.tables.refcount_table], ">u8")
        counts = np.concatenate([np.frombuffer(written[offset], ">u2") for offset in entries[entries != 0].tolist()])
        return {index: int(counts[index]) for index in np.flatnonzero(counts).tolist()}

    def counted(self) -> dict[int, int]:
        """Return how often each host cluster is used, as `qemu-img check` counts."""
        used = Counter([0])
        ranges = [*self.places, *((write.offset, len(write.data)) for write in self.writes)]
        ranges.append((self.tables.l1_table, self.l1_clusters * SIZE))
        for offset, length in ranges:
            used.update(range(offset // SIZE, (offset + length - 1) // SIZE + 1))
        return dict(used)


lengths = st.lists(st.one_of(st.just(WHOLE), st.integers(1, SIZE - 1)), max_size=60)


@given(lengths, st.integers(0, 3), st.integers(0, 3 * PER_BLOCK))
def test_the_refcounts_are_the_uses(lengths: list[int], l1_clusters: int, before: int) -> None:
    filled = Filled([WHOLE] * before + lengths, l1_clusters)
    assert filled.told() == filled.counted()


@given(lengths, st.integers(0, 2 * PER_BLOCK))
def test_no_byte_is_given_away_twice(lengths: list[int], before: int) -> None:
    filled = Filled([WHOLE] * before + lengths, 2)
    ranges = [(0, SIZE), (filled.tables.l1_table, 2 * SIZE), *filled.places]
    ranges += [(write.offset, len(write.data)) for write in filled.writes]
    ranges.sort()
    assert all(one + length <= other for (one, length), (other, _) in pairwise(ranges))
    last, length = ranges[-1]
    assert last + length == filled.tables.size


@given(lengths)
def test_what_is_whole_has_a_cluster_and_what_is_packed_two_at_most(lengths: list[int]) -> None:
    for offset, length in Filled(lengths).places:
        if length == WHOLE:
            assert offset % SIZE == 0
        else:
            assert (offset + length - 1) // SIZE - offset // SIZE <= 1


def test_packed_clusters_follow_one_another_across_the_borders_of_host_clusters() -> None:
    assert [offset for offset, _ in Filled([300, 300, 300]).places] == [512, 812, 1112]


def test_whole_clusters_do_not_end_a_host_cluster_of_packed_ones() -> None:
    """What does not fit any more begins a new one, as the next cluster is not the neighbour."""
    filled = Filled([100, WHOLE, 200, 300])
    assert [offset for offset, _ in filled.places] == [512, 1024, 612, 1536]


def test_a_host_cluster_is_not_used_more_often_than_a_refcount_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_clusters, "_MOST_REFERENCES", 7)
    filled = Filled([1] * 30)
    assert filled.told() == filled.counted()
    assert max(filled.told().values()) == 7
    assert [offset for offset, _ in filled.places][:9] == [*range(512, 519), 1024, 1025]


@pytest.mark.parametrize("count", range(PER_BLOCK - 6, PER_BLOCK + 3))
def test_the_last_tables_count_themselves(count: int) -> None:
    """Whether one block more is needed hangs on the tables themselves."""
    filled = Filled([WHOLE] * count)
    assert filled.told() == filled.counted()


def test_a_file_of_more_clusters_than_a_refcount_table_tells_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_clusters, "REFCOUNT_TABLE_MAX_BYTES", 16)
    Filled([WHOLE] * PER_BLOCK)
    with pytest.raises(UsageError, match="clusters of 512 bytes are too small for so much data: ask for larger ones"):
        Filled([WHOLE] * 3 * PER_BLOCK)


def test_blocks_are_written_while_the_file_grows() -> None:
    hosts = HostClusters(SIZE)
    found: list[Write] = []
    for count in range(10 * PER_BLOCK):
        hosts.packed(500) if count % 3 else hosts.whole()
        blocks = hosts.complete_blocks()
        assert len(blocks) <= 1
        found += blocks
    assert len(found) == 9 or len(found) == 10
    tables, writes = hosts.finish(1)
    assert isinstance(tables, LastTables)
    assert len(list(writes)) <= 3
