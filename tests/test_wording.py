"""How values are written."""

from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.builder import make
from vdifs.wording import json_name, size_text

SIZES = [512, 1024, 999 << 10, 1000 << 10, 1023 << 10, 1 << 20, 3_000_320, 10 << 30, 5 << 40]


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_written_as_by_qemu_img(size: int, tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", size)
    assert f"virtual size: {size_text(size)} ({size} bytes)" in oracle.qemu_img("info", tmp_path / "a.qcow2")


def test_a_name_that_is_utf_8_stands_alone() -> None:
    assert json_name("name", "größe.qcow2") == {"name": "größe.qcow2"}


def test_a_name_that_is_no_utf_8_has_its_bytes_beside_it() -> None:
    name = b"a\xff.qcow2".decode("utf-8", "surrogateescape")
    assert json_name("name", name) == {"name": "a\ufffd.qcow2", "name_hex": "61ff2e71636f7732"}
