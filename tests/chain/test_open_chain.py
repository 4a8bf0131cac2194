"""What an open chain knows of its files: whether they are those that a search described."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.catalog.test_catalog import scanned
from tests.conftest import require_tool
from tests.support.age import grow_old
from tests.support.builder import make, write_blank
from tests.support.units import MIB
from vdifs.catalog.catalog import Catalog
from vdifs.chain.open_chain import Chain
from vdifs.storage.fingerprint import Fingerprint

FILES = ("top.qcow2", "middle.qcow2", "middle.data")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An image on one that keeps its data in another file."""
    require_tool("qemu-img")
    make(tmp_path / "middle.qcow2", MIB, data_file=tmp_path / "middle.data")
    write_blank(tmp_path / "top.qcow2", "middle.qcow2", "qcow2")
    grow_old()
    return tmp_path


def described(catalog: Catalog) -> tuple[Fingerprint, ...]:
    return tuple(each for entry in catalog.chain("top.qcow2") for each in entry.fingerprints)


def test_a_chain_that_stands_is_what_was_described(source: Path) -> None:
    with scanned(source) as catalog, Chain.open(catalog.policy, "top.qcow2") as chain:
        found = described(catalog)
        assert found == tuple(Fingerprint.of((source / name).stat()) for name in FILES)
        for settled in (True, False):
            assert chain.was(found, settled=settled)
            assert not chain.was(found[:-1], settled=settled), "a file more"
            assert not chain.was((*found, found[0]), settled=settled), "a file less"
            assert not chain.was(found[::-1], settled=settled), "other files"


def write(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"x")


def put_another_there(path: Path) -> None:
    path.with_name("copy").write_bytes(path.read_bytes())
    path.with_name("copy").rename(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [write, put_another_there])
def test_of_a_chain_that_was_opened_after_a_change_something_else_was_described(
    source: Path, name: str, change: Callable[[Path], None]
) -> None:
    with scanned(source) as catalog:
        found = described(catalog)
        change(source / name)
        with Chain.open(catalog.policy, "top.qcow2") as chain:
            assert not chain.was(found, settled=False)
        catalog.scan()
        with Chain.open(catalog.policy, "top.qcow2") as chain:
            assert chain.was(described(catalog), settled=True)
