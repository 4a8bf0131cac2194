"""CRC-32C, as VHDX uses it: of whole sectors of 4 KiB side by side, as a log may have 16,384 of them. Pure: numpy only.

A remainder is linear, so halves are worked out by themselves and put together, in each sector of a batch at once:

    words      |w0|w1|w2|w3|w4|w5|w6|w7|     the remainder of each, by two tables of 65,536
    level 1    |w0 w1|w2 w3|w4 w5|w6 w7|     the left one moved on by 4 bytes, xor the right one
    level 2    |w0 .. w3   |w4 .. w7   |     by 8 bytes, and so on
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["SECTOR_BYTES", "START", "appended", "crc32c", "remainders"]

SECTOR_BYTES = 4096
START = 0xFFFF_FFFF
"""The state before the first byte; at the end all bits are inverted."""
_POLYNOMIAL = 0x82F6_3B78
_LEVELS = 10
_AT_ONCE = 64
"""Sectors: what is made of them fits into a processor's cache."""

_Table = NDArray[np.uint32]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`: of "123456789" it is E3069283."""
    odd = len(data) % SECTOR_BYTES
    state, table = START, _byte_table()
    for byte in data[:odd]:
        state = int(table[state & 0xFF ^ byte]) ^ state >> 8
    for each in remainders(np.frombuffer(data, np.uint8, offset=odd).reshape(-1, SECTOR_BYTES)).tolist():
        state = appended(state, each)
    return state ^ START


def appended(state: int, remainder: int) -> int:
    """Return the state behind one more sector, whose own remainder is given."""
    a, b, c, d = _sector_move()
    return a[state & 0xFF] ^ b[state >> 8 & 0xFF] ^ c[state >> 16 & 0xFF] ^ d[state >> 24] ^ remainder


def remainders(sectors: NDArray[np.uint8]) -> _Table:
    """Return the remainder of each sector alone, from the state 0: uint32. sectors: shape (n, 4096)."""
    found = np.empty(len(sectors), np.uint32)
    low, high = _word_tables()
    for at in range(0, len(sectors), _AT_ONCE):
        words = np.ascontiguousarray(sectors[at : at + _AT_ONCE]).view("<u2")
        values = low[words[:, 0::2]] ^ high[words[:, 1::2]]
        for move in _moves():
            values = _moved(values[:, 0::2], move) ^ values[:, 1::2]
        found[at : at + _AT_ONCE] = values[:, 0]
    return found


def _moved(values: _Table, move: _Table) -> _Table:
    """Return states behind as many zero bytes as `move` stands for: a table of 256 for each byte of a state."""
    moved: _Table = move[0][values & 0xFF] ^ move[1][values >> 8 & 0xFF] ^ move[2][values >> 16 & 0xFF]
    moved ^= move[3][values >> 24]
    return moved


@cache
def _byte_table() -> _Table:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


@cache
def _word_tables() -> tuple[_Table, _Table]:
    """Return the remainder of a word of 4 bytes by its lower half, and by its upper one."""
    upper = _two_more(np.arange(1 << 16, dtype=np.uint32))
    return _two_more(upper), upper


def _two_more(values: _Table) -> _Table:
    table = _byte_table()
    for _ in range(2):
        values = values >> 8 ^ table[values & 0xFF]
    return values


@cache
def _moves() -> tuple[_Table, ...]:
    """Return the tables for moves by 4 bytes, 8 bytes, ... 2,048 bytes."""
    bits = np.arange(256, dtype=np.uint32)
    move = np.stack([_two_more(_two_more(bits << np.uint32(8 * place))) for place in range(4)])
    moves = [move]
    while len(moves) < _LEVELS:
        moves.append(_moved(moves[-1], moves[-1]))
    return tuple(moves)


@cache
def _sector_move() -> tuple[tuple[int, ...], ...]:
    """Return the table for a move by a whole sector, as Python's own numbers."""
    last = _moves()[-1]
    a, b, c, d = (tuple(row) for row in _moved(last, last).tolist())
    return a, b, c, d
