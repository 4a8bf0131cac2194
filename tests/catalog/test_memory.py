"""What an image costs while it is not in use (docs/specification.md 5.9: 1 KiB per image, for the whole mount)."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.catalog.test_catalog import scanned
from tests.support.builder import write_blank

FOLDERS, IMAGES = 20, 50


def chain(folder: Path) -> None:
    write_blank(folder / "base-image.qcow2")
    for number in range(1, IMAGES):
        below = "base-image.qcow2" if number % 3 == 1 else f"snapshot-{number - 1:03}.qcow2"
        write_blank(folder / f"snapshot-{number:03}.qcow2", below, "qcow2")


def broken(folder: Path) -> None:
    for number in range(IMAGES):
        write_blank(folder / f"broken-{number:03}.qcow2", cluster_bits=8)


@pytest.mark.parametrize(("fill", "most"), [(chain, 760), (broken, 1024)])
def test_an_image_in_the_catalog_takes_less_than_its_share(
    tmp_path: Path, fill: Callable[[Path], None], most: int
) -> None:
    for number in range(FOLDERS):
        (tmp_path / f"vm{number:03}").mkdir()
        fill(tmp_path / f"vm{number:03}")
    with scanned(tmp_path):
        pass  # what is loaded and cached once is no image's share
    gc.collect()
    tracemalloc.start()
    try:
        with scanned(tmp_path) as catalog:
            catalog.scan()
            catalog.overlays("vm000/base-image.qcow2")
            assert len(catalog.entries) == FOLDERS * IMAGES
            gc.collect()
            each = tracemalloc.get_traced_memory()[0] / len(catalog.entries)
    finally:
        tracemalloc.stop()
    assert each < most, f"{each:.0f} bytes"
