"""Random L2 tables, valid, odd and damaged, on a backing file: vdifs reads and refuses what QEMU does."""

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vdifs
from tests.conftest import require_tool
from tests.support.agreement import contents, qemu_contents
from tests.support.builder import Tables, make, pattern, rebase
from tests.support.image_file import Image
from tests.support.qcow2 import COMPRESSED, COPIED, OFFSETS, ZERO
from tests.support.units import KIB

RESERVED = [1 << 1, 1 << 5, 1 << 57, 1 << 61]
BASE_SIZE = 48 * KIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a base of 48 KiB, shorter than many of the images."""
    require_tool("qemu-img")
    folder = tmp_path_factory.mktemp("tables")
    make(folder / "base.qcow2", BASE_SIZE, f"write -P 0xbb 0 {BASE_SIZE}", cluster_size=512)
    return folder


def flags(*bits: int) -> st.SearchStrategy[int]:
    return st.sets(st.sampled_from(bits)).map(sum)


@st.composite
def words(draw: st.DrawFn, first: int, bits: int, data_clusters: int) -> int:
    """Draw an L2 entry. Its place lies in the data of the file: what lies beyond the end QEMU reads as zeros."""
    kinds = ["nothing", "data", "data", "data", "zero", "zero with a place", "packed"]
    if bits > 9:  # else a sector is a whole cluster, and the one behind the last cluster lies beyond the end
        kinds.append("unaligned")
    kind = draw(st.sampled_from(kinds))
    place = first + (draw(st.integers(0, data_clusters - 1)) << bits)
    odd = draw(flags(*RESERVED)) if draw(st.integers(0, 4)) == 0 else 0
    if kind == "packed":
        return COMPRESSED | place + draw(st.sampled_from([0, 0, 1, 511]))
    return (
        odd
        | {
            "nothing": draw(st.sampled_from([0, 0, COPIED])),
            "data": place | COPIED,
            "zero": ZERO,
            "zero with a place": place | COPIED | ZERO,
            "unaligned": (place + 512) | COPIED if draw(st.integers(0, 9)) == 0 else 0,
        }[kind]
    )


@st.composite
def images(draw: st.DrawFn) -> Tables:
    extended = draw(st.booleans())
    bits = 14 if extended else draw(st.sampled_from([9, 10, 12, 16]))
    size = draw(st.integers(0, 200)) * 512
    shape = Tables(bits, size, {}, {} if extended else None)
    clusters = sorted(draw(st.sets(st.integers(0, shape.clusters - 1), max_size=12))) if shape.clusters else []
    shape = Tables(bits, size, dict.fromkeys(clusters, 0), {} if extended else None)
    entries = {cluster: draw(words(shape.first_data, bits, 8)) for cluster in clusters}
    if not extended:
        return Tables(bits, size, entries, version=draw(st.sampled_from([2, 3, 3])))
    word = st.sampled_from([0, 0xFFFF_FFFF, 0xFFFF, 0xF0F0_0001])
    bitmaps = {}
    for cluster in clusters:
        low, high = draw(word), draw(word)
        has_place = bool(entries[cluster] & OFFSETS)
        bitmaps[cluster] = (low if has_place else 0) | (high & ~low) << 32
        if draw(st.integers(0, 19)) == 0:
            bitmaps[cluster] = high << 32 | low
    return Tables(bits, size, entries, bitmaps)


def packed_cluster(size: int) -> bytes:
    stream = zlib.compressobj(wbits=-12)
    return (stream.compress(pattern(0x77, size)) + stream.flush()).ljust(512, b"\0")


def write(path: Path, tables: Tables) -> Image:
    """Write the image; the first data clusters are the beginnings of compressed ones as well."""
    tables.write(path)
    image = Image(path)
    for number in (0, 3):
        image.write(tables.first_data + (number << tables.cluster_bits), packed_cluster(tables.cluster_size))
    return rebase(image, "base.qcow2") if tables.cluster_bits >= 12 else image


@settings(max_examples=60)
@given(tables=images(), cut=st.one_of(st.none(), st.integers(1, 600)))
def test_random_tables_are_read_as_by_qemu(folder: Path, tables: Tables, cut: int | None) -> None:
    """cut: of the file's last cluster all but so many bytes are missing, as after a write that ended early."""
    image = write(folder / "image.qcow2", tables)
    if cut is not None:
        last = tables.first_data + (tables.data_clusters - 1 << tables.cluster_bits)
        os.truncate(image.path, last + min(cut, tables.cluster_size))
    try:
        found = contents(image)
    except vdifs.FormatError as error:
        assert qemu_contents(image) is None, f"QEMU reads it, vdifs says: {error}"
    else:
        assert found == qemu_contents(image)
