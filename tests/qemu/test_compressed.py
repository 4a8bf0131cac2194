"""Compressed clusters in every layer of a chain, and those that hold less, more or other than they should."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import zstandard

import vdifs
from tests.support import oracle
from tests.support.agreement import both_read
from tests.support.builder import make
from tests.support.command_line import run_vdifs
from tests.support.image_file import Image
from tests.support.packing import METHODS, pack, put
from tests.support.proofs import prove_delta, prove_full, prove_map
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB

CLUSTER = 64 * KIB


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(method: str, tmp_path: Path) -> Image:
    """An image of two clusters, the second compressed, whose compressed bytes a test replaces."""
    (tmp_path / "stamps").write_bytes(stamped(CLUSTER, CLUSTER, 1))
    command = f"write -c -s {tmp_path / 'stamps'} 64k 64k"
    return make(tmp_path / "image.qcow2", 2 * CLUSTER, "write -P 1 0 64k", command, compression_type=method)


@pytest.mark.parametrize("bits", range(9, 22))
def test_compressed_clusters_of_all_layers_show_through_clusters_of_other_sizes(
    bits: int, method: str, tmp_path: Path
) -> None:
    """Three layers, each compressed; each hides the one below in part, the second with a method of its own."""
    folder, cluster_size = tmp_path / "source", 1 << bits
    folder.mkdir()
    size = max(6 * cluster_size, 256 * KIB) + 512
    sizes = [cluster_size, 1 << 9 + (bits - 4) % 13, 1 << 9 + (bits + 1) % 13]
    methods = [method, "zlib" if method == "zstd" else "zstd", method]
    images: list[Path] = []
    for level, (clusters, chosen) in enumerate(zip(sizes, methods, strict=True)):
        path = folder / f"{level}.qcow2"
        options = {"cluster_size": clusters, "compression_type": chosen}
        make(
            path,
            size,
            *writes(tmp_path / "data", level, clusters, size),
            backing=(images[-1].name, "qcow2") if images else None,
            **options,
        )
        images.append(path)
    for path in images[1:]:
        prove_map(path, path)
        prove_full(path, tmp_path / f"full-{path.name}", like=path)
    for base in images[:-1]:
        prove_delta(images[-1], base, base, tmp_path / f"on-{base.name}", like=images[-1])


def writes(folder: Path, level: int, cluster_size: int, size: int) -> list[str]:
    """Return commands that write all of the lowest level, some of the others; some data then overwrite a part."""
    folder.mkdir(exist_ok=True)
    first, last = level * (size // 3), size if level == 0 else size * (level + 2) // 4
    start, end = first // cluster_size * cluster_size, min(-(-last // cluster_size) * cluster_size, size)
    name = folder / str(level)
    name.write_bytes(stamped(start, end - start, level))
    odd = (start + end) // 2 + 5
    return [f"write -c -s {name} {start} {end - start}", f"write -P 0x7{level} {odd} {min(1000, size - odd)}"]


def test_a_cluster_may_be_several_frames(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", 2 * CLUSTER, "write -P 1 0 64k", compression_type="zstd")
    data = stamped(CLUSTER, CLUSTER, 2)
    cuts = [0, 1, 1000, 1000, 30_000, CLUSTER]
    put(image, b"".join(pack("zstd", data[low:high]) for low, high in pairwise(cuts)))
    assert both_read(image)[CLUSTER:] == data


def test_compressed_sectors_may_run_past_the_end_of_the_file(image: Image, method: str) -> None:
    packed = pack(method, stamped(CLUSTER, CLUSTER, 2))
    put(image, packed, sectors=100)
    offset = image.l2_entry(1) & ((1 << 54) - 1)
    os.truncate(image.path, offset + len(packed))
    assert both_read(image)[CLUSTER:] == stamped(CLUSTER, CLUSTER, 2)


def test_compressed_data_may_begin_anywhere_and_end_in_other_data(image: Image, method: str) -> None:
    """As QEMU packs them: one behind the other, two in a sector."""
    packed = pack(method, stamped(CLUSTER, CLUSTER, 2))
    for within in (1, 255, 511):
        put(image, packed, at=image.append(b"\xff" * (1024 + len(packed))) + within)
        assert both_read(image)[CLUSTER:] == stamped(CLUSTER, CLUSTER, 2)


def damaged(method: str) -> dict[str, bytes]:
    return {
        "holds less than a cluster": pack(method, stamped(CLUSTER, CLUSTER - 1, 2)),
        "is all zeros": bytes(1024),
        "is no stream": b"\xff" * 1000,
    }


@pytest.mark.parametrize("damage", damaged("zlib"))
@pytest.mark.parametrize("below", [False, True], ids=["in the image", "in its backing file"])
def test_a_damaged_cluster_is_an_error_that_names_the_file_and_the_rest_is_read(
    damage: str, below: bool, image: Image, method: str, tmp_path: Path
) -> None:
    put(image, damaged(method)[damage])
    path = image.path
    if below:
        path = make(tmp_path / "top.qcow2", 2 * CLUSTER, "write -P 5 0 1k", backing=("image.qcow2", "qcow2")).path
    assert not qemu_reads(path)
    with vdifs.open(path, view="raw") as opened:
        with pytest.raises(vdifs.FormatError, match=r"image\.qcow2: .*compressed") as caught:
            opened.read_at(CLUSTER + 100, 10)
        assert os.strerror(caught.value.errno) == "Input/output error"
        assert opened.read_at(2000, 10) == b"\x01" * 10
    output = tmp_path / "output.qcow2"
    ended = run_vdifs("export", path, output, "--progress", "none")
    assert (ended.status, ended.out, output.exists()) == (1, "", False)
    assert "image.qcow2" in ended.err


@pytest.mark.seeds(20, long=200)
def test_a_cluster_with_wrong_bytes_is_what_qemu_makes_of_it(image: Image, method: str, rng: Random) -> None:
    """Perhaps it still is a stream of a whole cluster, without a checksum to tell; else both refuse it."""
    packed = bytearray(pack(method, stamped(CLUSTER, CLUSTER, 2)))
    for _ in range(rng.randint(1, 3)):
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    put(image, bytes(packed))
    if qemu_reads(image.path):
        wanted = oracle.materialize(image.path, image.path.with_suffix(".raw")).read_bytes()
        with vdifs.open(image.path, view="raw") as opened:
            assert opened.read_at(0, 2 * CLUSTER) == wanted
    else:
        with vdifs.open(image.path, view="raw") as opened, pytest.raises(vdifs.FormatError, match=r"image\.qcow2"):
            opened.read_at(CLUSTER, 1)


def qemu_reads(image: Path) -> bool:
    try:
        oracle.qemu_io(image, ["read 64k 64k"])
    except oracle.OracleError:
        return False
    return True


def test_a_cluster_that_inflates_to_more_is_read_as_by_qemu_or_refused(image: Image, method: str) -> None:
    """Twice a cluster: of deflate QEMU takes the first, of zstd none; vdifs does the same."""
    put(image, pack(method, stamped(CLUSTER, 2 * CLUSTER, 2)))
    if qemu_reads(image.path):
        assert both_read(image)[CLUSTER:] == stamped(CLUSTER, CLUSTER, 2)
    else:
        with vdifs.open(image.path, view="raw") as opened, pytest.raises(vdifs.FormatError, match=r"image\.qcow2"):
            opened.read_at(CLUSTER, 1)


MEMORY_OF_A_READ = """
import sys, vdifs
def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field + ":"))
with vdifs.open(sys.argv[1], view="raw") as image:
    image.read_at(0, 1 << 16)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from here
    before = memory("VmRSS")
    try:
        image.read_at(1 << 16, 1 << 16)
    except vdifs.VdifsError:
        pass
print((memory("VmHWM") - before) // 1024)
"""


def test_a_cluster_that_inflates_to_very_much_takes_no_memory(image: Image, method: str) -> None:
    packed = pack(method, bytes(96 * MIB))
    assert len(packed) < 2 * CLUSTER - 512
    put(image, packed)
    command = [sys.executable, "-c", MEMORY_OF_A_READ, os.fspath(image.path)]
    mebibytes = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    assert int(mebibytes) < 24


def test_a_zstd_frame_that_wants_a_large_window_is_refused(tmp_path: Path) -> None:
    """The header of a frame may ask for gigabytes to look back into; no more than 8 MiB are given."""
    image = make(tmp_path / "image.qcow2", 2 * CLUSTER, "write -P 1 0 64k", compression_type="zstd")
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    put(image, packer.compress(stamped(CLUSTER, CLUSTER, 2)) + packer.flush())
    with vdifs.open(image.path, view="raw") as opened, pytest.raises(vdifs.FormatError, match=r"image\.qcow2"):
        opened.read_at(CLUSTER, 1)


def test_half_of_a_compressed_cluster_is_hidden_by_zeros_and_half_by_data(method: str, tmp_path: Path) -> None:
    """Subclusters of the overlay end within the compressed cluster; the disk ends within another."""
    folder = tmp_path / "source"
    folder.mkdir()
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    size = 5 * MIB + 1536
    make(base, size, cluster_size=2 * MIB, compression_type=method)
    (tmp_path / "stamps").write_bytes(stamped(0, size, 1))
    oracle.qemu_io(base, [f"write -c -s {tmp_path / 'stamps'} 0 {size}"])
    make(
        top,
        size,
        "write -P 3 512 512",
        "write -z 2M 1536",
        "write -P 4 5M 512",
        "write -z 2100k 1M",
        backing=("base.qcow2", "qcow2"),
        cluster_size=16 * KIB,
        extended_l2="on",
    )
    prove_map(top, top)
    prove_full(top, tmp_path / "full.qcow2", like=top)
    prove_delta(top, base, base, tmp_path / "delta.qcow2", like=top)
