"""The cylinders, heads and sectors that a VHD states of a disk: as its specification works them out. Pure.

They are what a BIOS of old would address. Readers that go by the current size pay no attention to them.
"""

from typing import NamedTuple

from vdifs.units import ceil_div

__all__ = ["CHS", "geometry_of"]

_MOST_CYLINDERS, _MOST_HEADS, _MOST_SECTORS = 65535, 16, 255
_CYLINDERS_OF_IDE = 1024
_LARGE = 63
"""Sectors per track from which on a disk is so large that it has the most of them."""


class CHS(NamedTuple):
    """Cylinders, heads, and sectors per track."""

    cylinders: int
    heads: int
    sectors: int


def geometry_of(sectors: int) -> CHS:
    """Return the geometry of a disk of so many sectors; it covers no more of them, and mostly some less.

    QEMU: calculate_geometry() of block/vpc.c.
    """
    sectors = min(sectors, _MOST_CYLINDERS * _MOST_HEADS * _MOST_SECTORS)
    if sectors >= _MOST_CYLINDERS * _MOST_HEADS * _LARGE:
        return CHS(sectors // _MOST_SECTORS // _MOST_HEADS, _MOST_HEADS, _MOST_SECTORS)
    tracks = sectors // 17
    heads = max(4, ceil_div(tracks, _CYLINDERS_OF_IDE))
    if tracks < heads * _CYLINDERS_OF_IDE and heads <= _MOST_HEADS:
        return CHS(tracks // heads, heads, 17)
    tracks = sectors // 31
    if tracks < _MOST_HEADS * _CYLINDERS_OF_IDE:
        return CHS(tracks // _MOST_HEADS, _MOST_HEADS, 31)
    return CHS(sectors // _LARGE // _MOST_HEADS, _MOST_HEADS, _LARGE)
