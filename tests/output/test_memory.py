"""Opening takes little memory, however many the layers and however fine they are (docs/specification.md 5.9)."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import vdifs
from tests.support import oracle
from tests.support.builder import make, write_blank
from tests.support.qcow2 import COPIED

MIB = 1 << 20
CLUSTER = 512
PART = 64 * MIB
LAYERS = 24
TABLE = CLUSTER // 8 * CLUSTER
"""Bytes that an L2 table maps."""


def finely_cut(folder: Path, parts: list[int]) -> Path:
    """Make a chain in which each layer has every second cluster of one part of the disk as zeros; return its top."""
    path: Path | None = None
    size = (max(parts) + 1) * PART
    for number, part in enumerate(parts):
        below, path = path, folder / f"{number}.qcow2"
        l1_at, l1_size, tables = 4 << 12, size // TABLE, PART // TABLE
        l2_at = l1_at + -(-l1_size * 8 // CLUSTER) * CLUSTER
        write_blank(
            path,
            below.name if below else None,
            "qcow2" if below else None,
            cluster_bits=9,
            size=size,
            l1_size=l1_size,
            l1_table_offset=l1_at,
        )
        l1 = np.zeros(l1_size, ">u8")
        l1[part * tables :][:tables] = (l2_at + np.arange(tables, dtype=np.uint64) * CLUSTER) | np.uint64(COPIED)
        l2 = np.zeros(tables * CLUSTER // 8, ">u8")
        l2[::2] = 1
        with path.open("r+b") as file:
            file.seek(l1_at)
            file.write(l1.tobytes())
            file.seek(l2_at)
            file.write(l2.tobytes())
    assert path is not None
    return path


@contextmanager
def at_most(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB"


@pytest.mark.parametrize("parts", [list(range(LAYERS)), [0] * LAYERS], ids=["side by side", "all the same"])
@pytest.mark.parametrize("cluster_size", [None, 64 << 10, 2 * MIB], ids=["as the top", "64 KiB", "2 MiB"])
def test_many_layers_of_small_clusters_are_opened_and_read_in_little_memory(
    tmp_path: Path, parts: list[int], cluster_size: int | None
) -> None:
    top = finely_cut(tmp_path, parts)
    with at_most(64 * MIB), vdifs.open(top, cluster_size=cluster_size) as image:
        for offset in range(0, image.size, max(4096, image.size // 64)):
            image.read_at(offset, 65536)


@pytest.mark.timeout(300)
def test_a_chain_of_small_clusters_under_a_top_of_large_ones_is_what_qemu_reads(tmp_path: Path) -> None:
    below, top = finely_cut(tmp_path, [0, 1, 2]), tmp_path / "top.qcow2"
    make(top, 3 * PART, "write -P 1 100M 70000", backing=(below.name, "qcow2"))
    copy = tmp_path / "copy.qcow2"
    with vdifs.open(top) as image, at_most(64 * MIB):
        copy.write_bytes(b"".join(image.stream()))
    oracle.check(copy)
    oracle.compare(copy, top)
