"""Damage to images of any format: numbers that get other values, and what must come of an image that has some."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tests.support.hand_made_chain import chain_of
from tests.support.units import MIB
from vdifs.chain.open_chain import Chain
from vdifs.errors import VdifsError
from vdifs.formats.image_format import ImageFormat

__all__ = ["any_number", "change", "is_read"]


def any_number(rng: random.Random, old: int, bits: int) -> int:
    """Return a number of so many bits: near the old one, at an end of its range, or any."""
    near = old + rng.choice([-1, 1, 8, 512, -512, MIB, -MIB])
    most = (1 << bits) - 1
    found = [0, 1, most, most - 1, 1 << rng.randrange(bits), near, old * 2, old // 2, rng.getrandbits(bits)]
    return rng.choice(found) & most


def change(rng: random.Random, image: bytearray, at: int, length: int, order: Literal["little", "big"]) -> None:
    """Give a number of the file another value; what would be behind its end is left."""
    length = min(length, len(image) - at)
    if length > 0:
        old = int.from_bytes(image[at : at + length], order)
        image[at : at + length] = any_number(rng, old, 8 * length).to_bytes(length, order)


def is_read(image_format: ImageFormat, path: Path, prove: Callable[[Chain], None]) -> bool:
    """Return True if the image is read: `prove` has seen that its disk is right, and all is told of it.

    Return False if it is refused, with an error that can be printed and says what to do.
    """
    try:
        with chain_of(image_format, path) as chain:
            prove(chain)
            member = chain.members[0]
            description = member.metadata.describe(member.file, None)
            assert all((description.fields(None), description.as_qemu(), description.all_fields()))
            audit = member.metadata.audit(member.file, "x", has_overlay=False)
            told = [*audit.problems, *audit.of_state(member.layer, "x")]
            assert all(each.message.isprintable() for each in told)
    except VdifsError as error:
        assert str(error).isprintable()
        assert error.remedy
        return False
    return True
