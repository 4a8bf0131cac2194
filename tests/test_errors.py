"""Errors: names that cannot harm a terminal, and what an error remembers."""

import gc
import tracemalloc
import weakref
from pathlib import Path

import pytest

from tests.catalog.test_catalog import scanned
from tests.support.builder import write_blank
from vdifs.errors import FormatError, VdifsError, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain größe", "plain größe"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        (b"gr\xf6\xdfe", "gr\\udcf6\\udcdfe"),
        ("right-to-left \u202e", "right-to-left \\u202e"),
    ],
)
def test_a_name_is_one_line_that_moves_no_cursor(name: str | bytes, shown: str) -> None:
    assert printable(name) == shown
    assert printable(name).isprintable()


class Heavy:
    """Something large that a frame holds."""


def failing() -> tuple[VdifsError, "weakref.ref[Heavy]"]:
    heavy = Heavy()
    try:
        try:
            raise OSError("below")
        except OSError as error:
            raise FormatError("above") from error
    except VdifsError as error:
        return error, weakref.ref(heavy)


def test_a_bare_error_holds_on_to_nothing() -> None:
    error, heavy = failing()
    gc.collect()
    assert heavy() is not None, "the frame is remembered: else this test shows nothing"
    assert error.bare() is error
    gc.collect()
    assert heavy() is None
    assert (error.finding, error.errno, error.__cause__, error.__context__) == ("above", 5, None, None)


def test_asking_for_a_broken_chain_again_and_again_takes_no_memory(tmp_path: Path) -> None:
    write_blank(tmp_path / "bad.qcow2", cluster_bits=8)
    with scanned(tmp_path) as catalog:

        def ask() -> None:
            with pytest.raises(FormatError):
                catalog.chain("bad.qcow2")

        ask()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(300):
                ask()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 300 * 100
        finally:
            tracemalloc.stop()
