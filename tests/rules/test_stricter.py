"""README.md, 'Stricter than QEMU': what vdifs refuses there, and what QEMU does instead."""

import os
import zlib
from pathlib import Path

import pytest
import zstandard

import vdifs
from tests.rules.test_l1_l2 import put_compressed
from tests.support import oracle
from tests.support.agreement import contents, format_error, qemu_contents, refused
from tests.support.builder import CLUSTER, make, make_raw, pattern, rebase
from tests.support.image_file import Image
from tests.support.qcow2 import COMPRESSED, COPIED
from tests.support.units import MIB

OLD = pattern(0xBB, MIB)


@pytest.fixture
def base(tmp_path: Path) -> Image:
    return make(tmp_path / "base.qcow2", MIB, "write -P 0xbb 0 1M")


@pytest.fixture
def image(tmp_path: Path, base: Image) -> Image:
    """Cluster 0 holds 1, the rest is in the base."""
    return make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", backing=("base.qcow2", "qcow2"))


def test_data_beyond_the_end_of_the_file_are_an_error_where_qemu_shows_zeros(image: Image) -> None:
    os.truncate(image.path, image.data_offset(0))
    assert qemu_contents(image) == bytes(CLUSTER) + OLD[CLUSTER:]
    with format_error("image.qcow2: the data of guest offset 0x0 lie at 0x.*, beyond the end of the file at 0x"):
        contents(image)


def test_an_l2_table_beyond_the_end_of_the_file_is_an_error_where_qemu_shows_older_data(image: Image) -> None:
    image.set_l1(0, 1 << 40 | COPIED)
    assert qemu_contents(image) == OLD
    with format_error("image.qcow2: the L2 table at 0x10000000000 lies beyond the end of the file at 0x"):
        contents(image)


def test_a_zstd_window_over_8_mib_is_an_error_where_qemu_takes_up_to_128(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", compression_type="zstd")
    for window_log in (23, 24, 27):
        parameters = zstandard.ZstdCompressionParameters(window_log=window_log)
        stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        put_compressed(image, 1, stream.compress(pattern(7)) + stream.flush())
        wanted = pattern(1) + pattern(7) + bytes(MIB - 2 * CLUSTER)
        assert qemu_contents(image) == wanted
        if window_log == 23:
            assert contents(image) == wanted
        else:
            with format_error("compressed cluster at 0x.*: the compressed data are damaged: .* too much memory"):
                contents(image)


def test_a_chain_that_contains_a_file_twice_is_eloop_where_qemu_never_ends(tmp_path: Path, base: Image) -> None:
    top = make(tmp_path / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    rebase(base, "top.qcow2")
    with pytest.raises(oracle.OracleError):
        oracle.qemu_img("convert", "-O", "raw", top.path, tmp_path / "out.raw", timeout=1)
    with refused(vdifs.ChainError, 40, "top.qcow2: it is in its own chain"):
        contents(top)


def test_an_image_that_is_its_own_backing_file_is_eloop(image: Image) -> None:
    with refused(vdifs.ChainError, 40, "image.qcow2: it is in its own chain"):
        contents(rebase(image, "image.qcow2"))


def test_a_file_twice_in_a_chain_is_found_under_another_name_too(tmp_path: Path, base: Image) -> None:
    (tmp_path / "same.qcow2").hardlink_to(base.path)
    middle = make(tmp_path / "middle.qcow2", MIB, backing=("same.qcow2", "qcow2"))
    rebase(base, "middle.qcow2")
    with refused(vdifs.ChainError, 40, "it is in its own chain"):
        contents(middle)


@pytest.mark.parametrize("entries", [2, 64], ids=["two", "more than the file has clusters"])
def test_l1_entries_that_share_an_l2_table_are_an_error_where_qemu_reads_it_each_time(
    tmp_path: Path, entries: int
) -> None:
    image = make(tmp_path / "image.qcow2", entries * CLUSTER * (CLUSTER // 8), "write -P 1 0 64k")
    for index in range(1, entries):
        image.set_l1(index, image.l1_entry(0))
    assert len([extent for extent in oracle.map_of(image.path) if extent.data]) == entries
    with format_error(r"two L1 entries share the L2 table at 0x40000: repair the image with 'qemu-img check -r all'"):
        vdifs.open(image.path)


def test_the_corrupt_bit_is_an_error_where_qemu_reads(image: Image) -> None:
    image.set(incompatible_features=1 << 1)
    assert qemu_contents(image) == pattern(1) + OLD[CLUSTER:]
    with format_error("the image is marked corrupt: repair it with 'qemu-img check -r all' first"):
        contents(image)


@pytest.mark.parametrize(
    "name",
    [
        'json:{"driver":"raw","file":{"driver":"file","filename":"%s"}}',
        "file:%s",
        "nbd:unix:/nonexistent",
        "http://localhost:1/x",
        "fat:/etc",
    ],
    ids=["json", "file", "nbd", "http", "fat"],
)
def test_protocol_names_are_eacces_where_qemu_follows_them(tmp_path: Path, name: str) -> None:
    secret = make_raw(tmp_path / "secret.raw", pattern(0x5E, MIB))
    top = rebase(make(tmp_path / "top.qcow2", MIB), name.replace("%s", str(secret)), None)
    if "%s" in name:
        assert qemu_contents(top) == pattern(0x5E, MIB)
    with refused(vdifs.PolicyError, 13, "top.qcow2: it names .*, a protocol: only files are followed"):
        contents(top)


@pytest.mark.parametrize("kind", ["absolute", "relative", "link"])
def test_files_outside_the_trusted_directories_are_eacces_where_qemu_serves_them(tmp_path: Path, kind: str) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    secret = make_raw(outside / "secret.raw", pattern(0x5E, MIB))
    name = {"absolute": str(secret), "relative": "../outside/secret.raw", "link": "link.raw"}[kind]
    (source / "link.raw").symlink_to(secret)
    top = rebase(make(source / "top.qcow2", MIB), name, "raw")
    assert qemu_contents(top) == pattern(0x5E, MIB)
    if kind == "link":
        with refused(vdifs.ChainError, 40, "symbolic links are not followed"):
            contents(top)
    else:
        with refused(vdifs.PolicyError, 13, f"not beneath a trusted directory: allow it with --trust {outside}"):
            contents(top)
        assert contents(top, trusted=[outside]) == pattern(0x5E, MIB)


def test_an_unstated_raw_format_is_eacces_where_qemu_probes(tmp_path: Path) -> None:
    make_raw(tmp_path / "base.raw", pattern(0x5E, MIB))
    top = rebase(make(tmp_path / "top.qcow2", MIB), "base.raw", None)
    assert qemu_contents(top) == pattern(0x5E, MIB)
    with refused(vdifs.PolicyError, 13, "it is not taken for raw unless stated; state it with 'qemu-img rebase -u -F"):
        contents(top)


def test_the_deflate_window_is_wider_than_the_one_of_qemu(tmp_path: Path) -> None:
    """The one thing that is looser: a stream that looks back 16 KiB, further than the 4 KiB that QEMU asks for.

    Many a zlib reads it all the same, since the whole cluster is there to look back into.
    """
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k")
    data = os.urandom(CLUSTER // 4) * 4
    stream = zlib.compressobj(9, wbits=-15)
    packed = stream.compress(data) + stream.flush()
    assert len(packed) < CLUSTER * 3 // 4, "the stream does not look back"
    offset = image.append(packed)
    image.set_l2(1, COMPRESSED | len(packed) // 512 << 54 | offset)
    wanted = pattern(1) + data + bytes(MIB - 2 * CLUSTER)
    assert contents(image) == wanted
    assert qemu_contents(image) in (None, wanted)
