"""One problem of many images is told once, of the image that has it."""

from collections.abc import Mapping

import pytest

from vdifs.catalog.grouping import refusals
from vdifs.errors import ChainError, FormatError, VdifsError

DAMAGED = FormatError("damaged", where="base")
MISSING = ChainError("its backing file cannot be opened", where="b", about=("opening", "gone"))
"""Met by way of another overlay of the same file too, in other words."""
MISSING_TOO = ChainError("its backing file cannot be opened", where="c", about=("opening", "gone"))

Told = list[tuple[str, VdifsError, tuple[str, ...]]]


@pytest.mark.parametrize(
    ("problems", "backing", "told"),
    [
        ({}, {}, []),
        ({"base": DAMAGED}, {}, [("base", DAMAGED, ("base",))]),
        ({"a": DAMAGED, "base": DAMAGED}, {"a": "base"}, [("base", DAMAGED, ("a", "base"))]),
        ({"a": DAMAGED, "z": DAMAGED}, {"a": "y", "y": "z"}, [("a", DAMAGED, ("a", "z"))]),
        (
            {"a": MISSING, "b": MISSING, "c": MISSING_TOO},
            {"a": "b", "b": "gone", "c": "gone"},
            [("b", MISSING, ("a", "b", "c"))],
        ),
        ({"a": DAMAGED, "b": MISSING}, {"b": "a"}, [("a", DAMAGED, ("a",)), ("b", MISSING, ("b",))]),
        ({"a": DAMAGED, "b": DAMAGED}, {"a": "b", "b": "a"}, [("a", DAMAGED, ("a", "b"))]),
    ],
    ids=[
        "none", "an image alone", "an overlay and its base", "names of one file", "overlays of a missing file",
        "two problems", "a loop",
    ],
)  # fmt: skip
def test_a_problem_is_told_once_of_the_image_that_stands_on_no_other_that_has_it(
    problems: Mapping[str, VdifsError], backing: Mapping[str, str], told: Told
) -> None:
    once = list(problems.items())
    for met in (once, once[::-1], [*once, *once]):
        assert refusals(met, backing.get) == told
