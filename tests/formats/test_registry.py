"""What is said of a file that is in none of the formats."""

import pytest

from tests.support.boxed import BOXED
from vdifs.formats.registry import FORMATS, no_image


def test_of_a_file_in_no_format_the_missing_marks_of_all_are_told_and_which_names_raw_images_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remedy = "name a qcow2 image, or a raw one called *.raw or *.img"
    assert str(no_image("a")) == f"a: not a qcow2 image: its first bytes are not 'QFI\\xfb': {remedy}"
    monkeypatch.setitem(FORMATS, BOXED.name, BOXED)
    what = "not a qcow2 or boxed image: its first bytes are not 'QFI\\xfb', it does not begin with 'boxed: 1'"
    assert str(no_image("a")) == f"a: {what}: name a qcow2 or boxed image, or a raw one called *.raw or *.img"
