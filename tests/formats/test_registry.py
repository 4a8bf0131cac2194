"""What is said of a file that is in none of the formats."""

import pytest

from tests.support.boxed import BOXED
from vdifs.formats.registry import FORMATS, no_image


def test_of_a_file_in_no_format_the_mark_is_told_that_its_name_promises_and_which_names_raw_images_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remedy = "name a qcow2, VHD, VHDX, VMDK or VDI image, or a raw one called *.raw or *.img"
    what = "not a qcow2, VHD, VHDX, VMDK or VDI image"
    assert str(no_image("a")) == f"a: {what}: it bears none of their marks: {remedy}"
    assert str(no_image("a.qcow2")) == f"a.qcow2: {what}: its first bytes are not 'QFI\\xfb': {remedy}"
    assert str(no_image("a.VHD")) == f"a.VHD: {what}: it has no footer that begins with 'conectix': {remedy}"
    monkeypatch.setitem(FORMATS, BOXED.name, BOXED)
    what, remedy = (
        "not a qcow2, VHD, VHDX, VMDK, VDI or boxed image",
        remedy.replace("qcow2, VHD, VHDX, VMDK or VDI", "qcow2, VHD, VHDX, VMDK, VDI or boxed"),
    )
    assert str(no_image("a.boxed")) == f"a.boxed: {what}: it does not begin with 'boxed: 1': {remedy}"
