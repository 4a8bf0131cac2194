"""Where everything lies: regions one after the other, and limits that are refused before a byte is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.errors import UsageError
from vdifs.formats.qcow2.geometry import Geometry
from vdifs.formats.qcow2.header import CompressionType, Header
from vdifs.output.qcow2.layout import Backing, Layout, Packed, check_geometry
from vdifs.units import SECTOR

BITS = st.integers(9, 21)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Geometry, int, int]:
    """Draw a geometry with the L2 tables and data clusters of an output."""
    geometry = Geometry(draw(BITS), draw(st.integers(0, 1 << 32)))
    if geometry.l1_size * 8 > 32 << 20:
        geometry = Geometry(16, geometry.virtual_size)
    l2_count = draw(st.integers(0, geometry.l1_size))
    most = min(l2_count * geometry.l2_entries, geometry.clusters, 1 << 20)
    return geometry, l2_count, draw(st.integers(0, most))


@given(plans())
def test_the_regions_follow_one_another_in_whole_clusters(plan: tuple[Geometry, int, int]) -> None:
    geometry, l2_count, data_clusters = plan
    layout = Layout.plan(geometry, l2_count, data_clusters, None)
    size = geometry.cluster_size
    edges = [0, layout.refcount_table, layout.refcount_blocks, layout.l1_table, layout.l2_tables, layout.data]
    edges.append(layout.size)
    assert edges == sorted(edges)
    assert all(edge % size == 0 for edge in edges)
    assert layout.l2_tables - layout.l1_table == -(-geometry.l1_size * 8 // size) * size
    assert (layout.data - layout.l2_tables, layout.size - layout.data) == (l2_count * size, data_clusters * size)


@given(plans(), st.text("base/.", min_size=1, max_size=100))
def test_the_header_says_where_the_regions_are(plan: tuple[Geometry, int, int], name: str) -> None:
    geometry = plan[0]
    layout = Layout.plan(*plan, Backing(name, "raw"))
    header = Header.parse(layout.header.pack().ljust(geometry.cluster_size, b"\0"))
    assert header == layout.header
    assert (header.backing_file, header.backing_format) == (name, "raw")
    assert (header.l1_table_offset, header.l1_size) == (layout.l1_table, geometry.l1_size)
    assert (header.refcount_table_offset, header.virtual_size) == (
        layout.refcount_table,
        geometry.virtual_size // 512 * 512,
    )
    assert header.incompatible_features == header.nb_snapshots == header.crypt_method == 0


@pytest.mark.parametrize(("bits", "longest"), [(9, 512 - 128), (10, 1024 - 128), (11, 1023), (21, 1023)])
def test_a_backing_name_fits_the_first_cluster_and_1023_bytes(bits: int, longest: int) -> None:
    geometry = Geometry(bits, 1 << 20)
    assert Layout.plan(geometry, 0, 0, Backing("x" * longest, "qcow2")).header.backing_file_size == longest
    for name in ("x" * (longest + 1), "ö" * (longest // 2 + 1), ""):
        with pytest.raises(UsageError, match=rf"a backing file name of {len(name.encode())} bytes does not fit"):
            Layout.plan(geometry, 0, 0, Backing(name, "qcow2"))


@pytest.mark.parametrize("bits", range(9, 22))
def test_an_l1_table_above_32_mib_is_refused_with_a_remedy(bits: int) -> None:
    most = (4 << 20) * Geometry(bits, 0).l2_coverage
    check_geometry(Geometry(bits, most))
    with pytest.raises(
        UsageError, match=r"are too small for a disk of .* bytes: ask for larger ones with --cluster-size"
    ):
        check_geometry(Geometry(bits, most + 1))


def test_a_refcount_table_above_8_mib_is_refused_with_a_remedy() -> None:
    """Clusters of 512: a table of 8 MiB has 1 Mi blocks of 256 refcounts each."""
    geometry = Geometry(9, (4 << 20) * (64 << 9))
    clusters = (1 << 20) * 256
    with pytest.raises(UsageError, match=r"clusters of 512 bytes are too small for .* of them: ask for larger ones"):
        Layout.plan(geometry, 1, clusters, None)
    Layout.plan(geometry, 1, clusters - (2 << 20), None)


def test_packed_clusters_beyond_what_an_l2_entry_points_to_are_refused_with_a_remedy() -> None:
    """Clusters of 2 MiB: their entries have 49 bits for an offset."""
    geometry, packed = Geometry(21, 1 << 50), Packed(CompressionType.DEFLATE, SECTOR)
    clusters = 1 << 28
    with pytest.raises(UsageError, match=r"too long for packed clusters of 2097152 bytes: .* --packed expand"):
        Layout.plan(geometry, 1, clusters, None, packed)
    assert Layout.plan(geometry, 1, clusters - 1024, None, packed).size <= 1 << 49
    Layout.plan(geometry, 1, clusters, None)
