"""Refcounts: the smallest structures that count a file and themselves, and the bytes of any part of them."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from vdifs.formats.qcow2.refcounts import fit_refcounts, pack_block, pack_table

CLUSTER_SIZES = st.integers(9, 21).map(lambda bits: 1 << bits)
OTHERS = st.one_of(st.integers(1, 1 << 12), st.integers(1, 1 << 28))


def is_enough(table: int, blocks: int, others: int, cluster_size: int) -> bool:
    """Tell whether `blocks` count all clusters, and `table` clusters hold the offsets of all blocks."""
    return blocks * (cluster_size // 2) >= others + table + blocks and table * (cluster_size // 8) >= blocks


@given(OTHERS, CLUSTER_SIZES)
def test_the_refcounts_count_everything_and_themselves(others: int, cluster_size: int) -> None:
    size = fit_refcounts(others, cluster_size)
    assert size.total == others + size.table_clusters + size.blocks
    assert is_enough(size.table_clusters, size.blocks, others, cluster_size)


@given(OTHERS, CLUSTER_SIZES)
def test_no_smaller_refcounts_would_do(others: int, cluster_size: int) -> None:
    size = fit_refcounts(others, cluster_size)
    assert not is_enough(size.table_clusters - 1, size.blocks, others, cluster_size)
    assert not is_enough(size.table_clusters, size.blocks - 1, others, cluster_size)
    assert not is_enough(size.table_clusters - 1, size.blocks - 1, others, cluster_size)


@given(st.integers(1, 600), st.just(512))
def test_the_smallest_refcounts_are_those_a_search_finds(others: int, cluster_size: int) -> None:
    found = min(
        (table + blocks, table, blocks)
        for table in range(1, 4)
        for blocks in range(1, 8)
        if is_enough(table, blocks, others, cluster_size)
    )
    size = fit_refcounts(others, cluster_size)
    assert (size.table_clusters + size.blocks, size.table_clusters, size.blocks) == found


@given(st.integers(1, 1 << 27))
def test_one_more_cluster_never_needs_fewer(others: int) -> None:
    smaller, larger = fit_refcounts(others, 512), fit_refcounts(others + 1, 512)
    assert smaller.table_clusters <= larger.table_clusters
    assert smaller.blocks <= larger.blocks
    assert smaller.total < larger.total


@given(st.integers(0, 100), st.integers(0, 60), st.integers(0, 80), CLUSTER_SIZES)
def test_the_table_points_to_blocks_one_after_the_other(first: int, count: int, blocks: int, cluster_size: int) -> None:
    entries = struct.unpack(f">{count}Q", pack_table(first, count, blocks, 3 * cluster_size, cluster_size))
    for index, entry in enumerate(entries, first):
        assert entry == ((3 + index) * cluster_size if index < blocks else 0)


@given(st.integers(0, 100), st.integers(0, 60), st.integers(0, 120))
def test_the_clusters_of_the_file_count_one_and_those_behind_it_none(first: int, count: int, total: int) -> None:
    counts = struct.unpack(f">{count}H", pack_block(first, count, total))
    assert counts == tuple(1 if index < total else 0 for index in range(first, first + count))
