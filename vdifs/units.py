"""The sector, and rounding to whole units."""

__all__ = ["SECTOR", "ceil_div", "round_down", "round_up"]

SECTOR = 512
"""Bytes; the length of any disk is a multiple of it."""


def ceil_div(value: int, unit: int) -> int:
    """Return how many units cover `value`."""
    return -(-value // unit)


def round_up(value: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is not below `value`."""
    return ceil_div(value, unit) * unit


def round_down(value: int, unit: int) -> int:
    """Return the largest multiple of `unit` that is not above `value`."""
    return value // unit * unit
