"""CRC-32C: the check value, a byte-by-byte model, and the parts that whole sectors are put together from."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vdifs.formats.vhdx.crc32c import SECTOR_BYTES, START, appended, crc32c, remainders


def bit_by_bit(data: bytes) -> int:
    state = 0xFFFF_FFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F6_3B78 if state & 1 else 0)
    return state ^ 0xFFFF_FFFF


def test_the_check_value() -> None:
    assert crc32c(b"123456789") == 0xE306_9283


@given(st.binary(max_size=300))
def test_short_data_are_summed_up_as_bit_by_bit(data: bytes) -> None:
    assert crc32c(data) == bit_by_bit(data)


def test_sectors_are_summed_up_as_bit_by_bit() -> None:
    for length in (4095, 4096, 4097, 3 * 4096 + 5):
        data = random.Random(length).randbytes(length)
        assert crc32c(data) == bit_by_bit(data), length


def test_more_sectors_than_are_worked_out_together_are_put_together_one_after_the_other() -> None:
    rows = np.frombuffer(random.Random(1).randbytes(130 * SECTOR_BYTES), np.uint8).reshape(-1, SECTOR_BYTES)
    state = START
    for each in remainders(rows).tolist():
        state = appended(state, each)
    assert state ^ START == crc32c(rows.tobytes())
    assert [remainders(rows[i : i + 1])[0] for i in range(130)] == remainders(rows).tolist()
