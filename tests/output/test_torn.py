"""Tables that are read in the middle of a write look damaged: what tells is whether the file has changed."""

from pathlib import Path

import pytest

import vdifs
from tests.support.age import grow_old
from tests.support.builder import write_blank
from vdifs.output.allocation import Allocation
from vdifs.output.summary import Summary


@pytest.mark.parametrize("written", [True, False])
def test_an_image_that_is_written_while_it_is_opened_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    image = tmp_path / "image.qcow2"
    write_blank(image)
    grow_old()
    real, torn = Allocation.summarize, iter([True])

    def summarize(allocation: Allocation) -> Summary:
        if not next(torn, False):
            return real(allocation)
        if written:
            with image.open("r+b") as file:
                file.write(b"Q")
        raise vdifs.FormatError("the L2 table lies beyond the end of the file")

    monkeypatch.setattr(Allocation, "summarize", summarize)
    if written:
        vdifs.open(image).close()
    else:
        with pytest.raises(vdifs.FormatError, match="beyond the end"):
            vdifs.open(image)
