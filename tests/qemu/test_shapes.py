"""Disks and chains of particular shapes, each a mistake that a program made once; QEMU says what they hold."""

import os
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle, surgery
from tests.support.builder import make
from tests.support.copying import copy_in_pieces
from tests.support.units import GIB, KIB, MIB

CLUSTER_SIZES = [1 << bits for bits in range(9, 22)]


def prove_full(source: Path, output: Path, *, cluster_size: int | None = None) -> Path:
    """Prove the full image of a source to QEMU, and return it."""
    with vdifs.open(source, cluster_size=cluster_size) as opened:
        copy_in_pieces(opened, output, Random(0))
    oracle.check(output)
    oracle.compare(output, source)
    return output


def prove_delta(source: Path, base: Path, output: Path, *, cluster_size: int | None = None) -> Path:
    """Prove the delta of a source to QEMU, on the full image of its base, and return it."""
    if not (output.parent / base.name).exists():
        prove_full(base, output.parent / base.name)
    with vdifs.open(source, base=base, cluster_size=cluster_size) as opened:
        copy_in_pieces(opened, output, Random(0))
    oracle.check(output)
    oracle.compare(output, source)
    return output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_any_cluster_size_can_be_asked_for(folder: Path, tmp_path: Path, cluster_size: int) -> None:
    make(
        folder / "base.qcow2",
        9 * MIB + 512,
        "write -P 1 0 5000",
        "write -P 2 5M 2M",
        "write -P 3 8M 1000",
        cluster_size=8 * KIB,
    )
    make(
        folder / "top.qcow2",
        9 * MIB + 512,
        "write -z 6M 300k",
        "write -P 4 3M 700",
        "write -z 3080k 512",
        "write -z 9M 512",
        backing=("base.qcow2", "qcow2"),
        cluster_size=512,
    )
    full = prove_full(folder / "top.qcow2", tmp_path / "full.qcow2", cluster_size=cluster_size)
    delta = prove_delta(
        folder / "top.qcow2", folder / "base.qcow2", tmp_path / "d" / "top.qcow2", cluster_size=cluster_size
    )
    assert oracle.info(full)["cluster-size"] == oracle.info(delta)["cluster-size"] == cluster_size


@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
@pytest.mark.parametrize("size", [0, 512, 100 * MIB, 100 * MIB + 512, 512 * MIB, 512 * MIB + 512], ids=str)
def test_a_disk_of_any_size_has_an_l1_table_that_is_long_enough(
    folder: Path, tmp_path: Path, size: int, cluster_size: int
) -> None:
    """A table of which the length is rounded down once and up once has no entry for the end of the disk."""
    source = folder / "disk.qcow2"
    make(source, size, cluster_size=cluster_size)
    if size:
        oracle.qemu_io(source, [f"write -P 9 {size - 512} 512", "write -P 8 0 1"])
    prove_full(source, tmp_path / "full.qcow2")


@pytest.mark.parametrize("clusters", [*range(225, 256), 16_000, 32_000])
def test_refcounts_count_themselves_at_any_length_of_the_file(folder: Path, tmp_path: Path, clusters: int) -> None:
    """With clusters of 512 a refcount block counts 256: one cluster more of data may need two more for refcounts."""
    source = folder / "disk.qcow2"
    make(source, 16 * MIB, f"write -P 5 0 {clusters * 512}", cluster_size=512)
    full = prove_full(source, tmp_path / "full.qcow2")
    assert oracle.check(full)["image-end-offset"] == full.stat().st_size


@pytest.mark.parametrize("size", [1, 511, 513, 1000, 65535, 65537, 1_000_001])
def test_a_virtual_size_that_is_no_multiple_of_512_is_rounded_down(folder: Path, tmp_path: Path, size: int) -> None:
    source = folder / "disk.qcow2"
    make(source, MIB, "write -P 5 0 1M")
    surgery.virtual_size_in_header(source, size)
    full = prove_full(source, tmp_path / "full.qcow2")
    assert oracle.virtual_size(full) == size // 512 * 512


@pytest.mark.parametrize("length", [0, 1, 511, 1000, 65537])
def test_a_raw_base_of_odd_length_ends_in_zeros(folder: Path, tmp_path: Path, length: int) -> None:
    (folder / "base.raw").write_bytes(b"\xee" * length)
    make(folder / "top.qcow2", 128 * KIB, "write -P 1 70000 10", backing=("base.raw", "raw"), cluster_size=1024)
    prove_full(folder / "top.qcow2", tmp_path / "full.qcow2")
    with vdifs.open(folder / "top.qcow2", view="raw") as opened:
        assert opened.read_at(0, 65537 + 512) == b"\xee" * length + bytes(65537 + 512 - length)


def test_a_base_stated_as_raw_is_raw_even_if_it_looks_like_qcow2(folder: Path, tmp_path: Path) -> None:
    make(folder / "base.raw", MIB)
    make(folder / "top.qcow2", 2 * MIB, "write -P 1 1M 10", backing=("base.raw", "raw"))
    prove_full(folder / "top.qcow2", tmp_path / "full.qcow2")
    with vdifs.open(folder / "top.qcow2", view="raw") as opened:
        assert opened.read_at(0, 4) == b"QFI\xfb"


def test_nothing_shows_through_from_below_a_backing_file_that_was_shortened(folder: Path, tmp_path: Path) -> None:
    """Base: 3 MiB of data, middle: cut to 1 MiB, top: 3 MiB. Zeros from 1 MiB on, and the delta says so."""
    for name, backing in [("base", None), ("middle", "base"), ("top", "middle")]:
        make(folder / f"{name}.qcow2", 3 * MIB, backing=(f"{backing}.qcow2", "qcow2") if backing else None)
    oracle.qemu_io(folder / "base.qcow2", ["write -P 7 0 3M"])
    oracle.qemu_io(folder / "middle.qcow2", ["truncate 1M"])
    prove_full(folder / "top.qcow2", tmp_path / "full.qcow2")
    delta = prove_delta(folder / "top.qcow2", folder / "base.qcow2", tmp_path / "delta" / "top.qcow2")
    held = [(e.start, e.zero, e.data) for e in oracle.map_of(delta) if e.depth == 0 and e.present]
    assert held == [(MIB, True, False)]


def test_the_zeros_beyond_a_short_backing_file_may_be_many_l2_tables_long(folder: Path, tmp_path: Path) -> None:
    for name, size, backing in [("base", 3 * GIB, None), ("middle", MIB, "base"), ("top", 3 * GIB, "middle")]:
        make(folder / f"{name}.qcow2", size, backing=(f"{backing}.qcow2", "qcow2") if backing else None)
    oracle.qemu_io(folder / "base.qcow2", ["write -P 7 1500M 100k", "write -P 8 0 100k"])
    oracle.qemu_io(folder / "top.qcow2", ["write -P 9 2500M 100k"])
    delta = prove_delta(folder / "top.qcow2", folder / "base.qcow2", tmp_path / "delta" / "top.qcow2")
    held = [(e.start, e.data) for e in oracle.map_of(delta) if e.depth == 0 and e.present]
    assert held == [(MIB, False), (2500 * MIB, True), (2500 * MIB + 128 * KIB, False)]


def test_neighbours_from_two_files_are_two_runs_even_where_their_offsets_go_on(folder: Path, tmp_path: Path) -> None:
    """Cluster 0 lies in the base, cluster 1 in the top, one cluster further in its file than the other in its own."""
    make(folder / "base.qcow2", MIB, "write -P 7 0 128k")
    make(folder / "top.qcow2", MIB, "write -P 8 512k 64k", "write -P 9 64k 64k", backing=("base.qcow2", "qcow2"))
    offsets = [extent.offset for extent in oracle.map_of(folder / "top.qcow2") if extent.data]
    assert offsets[0] is not None
    assert offsets[1] == offsets[0] + 64 * KIB
    prove_full(folder / "top.qcow2", tmp_path / "full.qcow2")


def test_a_cluster_of_zeros_and_nothing_over_zeros_needs_no_data(folder: Path) -> None:
    """512 zeros in a cluster of 64 KiB: the base has nothing there, so that the delta needs no data to say so."""
    make(folder / "base.qcow2", MIB)
    make(folder / "top.qcow2", MIB, "write -z 1024 512", backing=("base.qcow2", "qcow2"), cluster_size=512)
    with vdifs.open(folder / "top.qcow2", base=folder / "base.qcow2", cluster_size=64 * KIB) as opened:
        assert opened.allocated == 0


def test_a_delta_fills_the_rest_of_a_cluster_from_the_base(folder: Path, tmp_path: Path) -> None:
    make(folder / "base.qcow2", MIB, "write -P 7 0 1M")
    make(
        folder / "top.qcow2",
        MIB,
        "write -P 1 512 512",
        "write -z 70000 1024",
        "write -P 2 1047552 1024",
        backing=("base.qcow2", "qcow2"),
        cluster_size=512,
    )
    delta = prove_delta(
        folder / "top.qcow2", folder / "base.qcow2", tmp_path / "d" / "top.qcow2", cluster_size=64 * KIB
    )
    held = [(e.start, e.data) for e in oracle.map_of(delta) if e.depth == 0 and e.present]
    assert held == [(0, True), (15 * 64 * KIB, True)]


@pytest.mark.parametrize("name", ["b", "ö" * 20, "x:y", "a/b:c", "sp ace%41", "n" * 255, "d/" * 400 + "b"])
def test_a_delta_states_the_backing_name_it_was_given(folder: Path, tmp_path: Path, name: str) -> None:
    make(folder / "base.qcow2", MIB)
    make(folder / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"), cluster_size=2048)
    with vdifs.open(folder / "top.qcow2", base=folder / "base.qcow2", backing_name=name) as opened:
        delta = copy_in_pieces(opened, tmp_path / "delta.qcow2", Random(0))
    assert oracle.qemu_img("info", "-U", "--output=json", delta)
    assert oracle.info(delta)["backing-filename"] == name


@pytest.mark.parametrize(("name", "cluster_size"), [("n" * 1024, 64 * KIB), ("n" * 600, 512)])
def test_a_backing_name_that_does_not_fit_is_refused(folder: Path, name: str, cluster_size: int) -> None:
    make(folder / "base.qcow2", MIB)
    make(folder / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    with pytest.raises(vdifs.VdifsError):
        vdifs.open(
            folder / "top.qcow2", base=folder / "base.qcow2", backing_name=name, cluster_size=cluster_size
        ).close()


def test_a_cluster_size_too_small_for_the_disk_is_refused(folder: Path) -> None:
    make(folder / "disk.qcow2", 256 * GIB)
    with pytest.raises(vdifs.VdifsError, match="512"):
        vdifs.open(folder / "disk.qcow2", cluster_size=512).close()


def test_a_last_cluster_that_the_file_ends_in_is_padded_with_zeros(folder: Path, tmp_path: Path) -> None:
    source = folder / "disk.qcow2"
    make(source, MIB, "write -P 7 64k 64k")
    os.truncate(source, source.stat().st_size - 60_000)
    prove_full(source, tmp_path / "full.qcow2")
    with vdifs.open(source, view="raw") as opened:
        assert opened.read_at(64 * KIB, 64 * KIB) == b"\x07" * 5536 + bytes(60_000)


def test_data_beyond_the_end_of_the_file_is_an_error_and_never_zeros(folder: Path) -> None:
    """QEMU 7.2 reads zeros here, and would show the older data of a backing file if an L2 table were cut off."""
    source = folder / "disk.qcow2"
    make(source, MIB, "write -P 7 0 256k")
    os.truncate(source, source.stat().st_size - 3 * 64 * KIB)
    with pytest.raises(vdifs.VdifsError), vdifs.open(source, view="raw") as opened:
        opened.read_at(0, opened.size)


def test_a_file_with_more_holes_than_are_looked_for_is_read_all_the_same(folder: Path) -> None:
    source = folder / "disk.qcow2"
    make(source, GIB, preallocation="metadata", cluster_size=128 * KIB)  # one L2 table
    offset = next(e.offset for e in oracle.map_of(source) if e.offset)
    with source.open("r+b") as file:
        for index in range(70_000):
            os.pwrite(file.fileno(), b"x", offset + index * 8 * KIB)
    with source.open("rb") as file, vdifs.open(source, view="raw") as opened:
        for start in (0, 100 * MIB + 1, 545 * MIB):
            assert opened.read_at(start, MIB) == os.pread(file.fileno(), MIB, offset + start)
