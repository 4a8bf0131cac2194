"""Sizes that tests speak of."""

SECTOR = 512
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def sectors_up(size: int) -> int:
    return -(-size // SECTOR) * SECTOR
