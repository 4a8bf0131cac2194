"""What is told of the size of a synthetic file."""

from pathlib import Path

import pytest

import vdifs
from tests.support.builder import make
from vdifs.report.measure import Measured, measured_json


@pytest.mark.parametrize("commands", [[], ["write -P 1 0 1M"]], ids=["nothing written", "all written"])
def test_the_sizes_are_those_of_the_open_image(commands: list[str], tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20, *commands)
    with vdifs.open(tmp_path / "a.qcow2") as image:
        measured = Measured.of(image)
        assert measured.required == image.size == len(image.read_at(0, 4 << 20))
    assert (measured.required == measured.fully_allocated) is bool(commands)


def test_json_is_that_of_qemu_img_measure() -> None:
    assert list(measured_json(Measured(1, 2)).items()) == [("bitmaps", 0), ("required", 1), ("fully-allocated", 2)]
