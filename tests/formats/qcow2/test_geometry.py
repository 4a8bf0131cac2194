"""Quotients and roundings: each against its definition, counted out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.formats.qcow2.geometry import Geometry
from vdifs.units import ceil_div, round_down, round_up

VALUES = st.integers(0, 1 << 62)
UNITS = st.integers(1, 1 << 40)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    extended_l2 = draw(st.booleans())
    bits = draw(st.integers(14 if extended_l2 else 9, 21))
    return Geometry(bits, draw(st.one_of(st.integers(0, 1 << 24), VALUES)), extended_l2)


@given(VALUES, UNITS)
def test_rounding_gives_the_nearest_multiples_around_a_value(value: int, unit: int) -> None:
    low, high = round_down(value, unit), round_up(value, unit)
    assert low % unit == high % unit == 0
    assert low <= value <= high
    assert value - low < unit
    assert high - value < unit
    assert ceil_div(value, unit) * unit == high


@given(geometries())
def test_an_l2_table_fills_one_cluster_and_the_l1_table_covers_the_disk(g: Geometry) -> None:
    assert g.l2_entries * g.l2_entry_size == g.cluster_size
    assert g.l2_coverage == g.l2_entries * g.cluster_size == g.units_per_l2 * g.grain
    assert (g.l1_size - 1) * g.l2_coverage < g.virtual_size <= g.l1_size * g.l2_coverage or g.l1_size == 0
    assert (g.l1_size == 0) == (g.virtual_size == 0)


@given(geometries())
def test_the_clusters_cover_the_disk_and_none_is_too_many(g: Geometry) -> None:
    assert g.clusters * g.cluster_size >= g.virtual_size > (g.clusters - 1) * g.cluster_size or g.virtual_size == 0
    assert g.clusters == g.clusters_for(g.virtual_size)
    if g.virtual_size:
        assert g.cluster_index(g.virtual_size - 1) == g.clusters - 1


@pytest.mark.parametrize(
    ("size", "bits", "entries"),
    [(0, 16, 0), (1, 16, 1), (512 << 20, 16, 1), ((512 << 20) + 1, 16, 2), (100 << 20, 16, 1), (32768, 9, 1)],
)
def test_a_disk_needs_the_l1_entries_that_qemu_gives_it(size: int, bits: int, entries: int) -> None:
    assert Geometry(bits, size).l1_size == entries
