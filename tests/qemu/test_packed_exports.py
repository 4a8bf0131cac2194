"""`vdifs export --compress`: QEMU, and others, find the disk in it, and nothing wrong with it."""

import zlib
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.support import oracle, qcow2
from tests.support.builder import make
from tests.support.command_line import export
from tests.support.compressing import by_dissect, mixed, packed_clusters, text
from tests.support.packing import pack, put
from tests.support.seven_zip import by_7zip
from tests.support.units import KIB, MIB

METHODS = ["deflate", "zstd"]
FORMATS = {"deflate": "zlib", "zstd": "zstd"}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(path: Path, data: bytes, at: int = 0) -> None:
    """Write data to an image, zeros too."""
    scratch = path.with_suffix(".data")
    scratch.write_bytes(data)
    oracle.qemu_io(path, [f"write -s {scratch} {at} {len(data)}"])
    scratch.unlink()


def source_of(folder: Path, cluster_size: int, clusters: int = 12) -> Path:
    """Make an image of all kinds of clusters and some that hold nothing; the disk ends within the last one."""
    path = folder / "source.qcow2"
    make(path, (clusters + 6) * cluster_size + cluster_size // 1024 * 512 + 512, cluster_size=cluster_size)
    fill(path, mixed(clusters, cluster_size, clusters))
    oracle.qemu_io(path, [f"write -P 7 {(clusters + 6) * cluster_size} 512"])
    return path


def prove(source: Path, output: Path, *words: str | Path, packed: bool = True) -> Path:
    """Export, have QEMU look at it, and return it."""
    export(source, output, "--compress", *words)
    assert bool(oracle.check(output).get("compressed-clusters")) == packed
    oracle.compare(output, source)
    return output


@pytest.mark.parametrize("bits", range(9, 22))
def test_every_cluster_size(bits: int, method: str, tmp_path: Path) -> None:
    cluster_size = 1 << bits
    source = source_of(tmp_path, cluster_size, 70 if bits == 9 else 12 if bits < 20 else 6)
    output = prove(source, tmp_path / "output.qcow2", method, "--level", "1")
    said = oracle.info(output)
    assert said["cluster-size"] == cluster_size
    assert said["format-specific"]["data"]["compression-type"] == FORMATS[method]
    assert output.stat().st_size % cluster_size == 0
    if bits >= 12:
        assert output.stat().st_size < export(source, tmp_path / "plain.qcow2").stat().st_size


@pytest.mark.parametrize("extended", [False, True], ids=["clusters", "subclusters"])
@pytest.mark.parametrize("cluster_size", [16 * KIB, 64 * KIB, 512 * KIB])
def test_a_delta_is_read_on_its_base(cluster_size: int, extended: bool, method: str, tmp_path: Path) -> None:
    base, top = source_of(tmp_path, cluster_size), tmp_path / "top.qcow2"
    size = oracle.virtual_size(base)
    make(top, size, backing=(base.name, "qcow2"), cluster_size=cluster_size)
    fill(top, mixed(8, cluster_size, 5), 3 * cluster_size)
    zeros = f"write -z {13 * cluster_size} {cluster_size}"
    oracle.qemu_io(top, [zeros, f"write -P 3 {size - 512} 512", "write -P 4 512 1k"])
    words = ["--extended-l2"] if extended else []
    output = prove(top, tmp_path / "output.qcow2", method, "--base", base, *words)
    assert oracle.info(output)["backing-filename"] == base.name
    held = [extent for extent in oracle.map_of(output) if extent.depth == 0]
    assert any(extent.zero for extent in held)
    assert sum(extent.end - extent.start for extent in held if not extent.zero) <= 9 * cluster_size


def test_a_full_image_of_subclusters(method: str, tmp_path: Path) -> None:
    source = source_of(tmp_path, 64 * KIB)
    output = prove(source, tmp_path / "output.qcow2", method, "--extended-l2")
    assert oracle.info(output)["format-specific"]["data"]["extended-l2"]


def test_a_delta_of_subclusters_holds_no_more_packed_than_plain(method: str, tmp_path: Path) -> None:
    """A cluster through some of whose subclusters the base shows stays plain, all others are packed."""
    base, top = source_of(tmp_path, 64 * KIB), tmp_path / "top.qcow2"
    make(top, oracle.virtual_size(base), backing=(base.name, "qcow2"), cluster_size=64 * KIB, extended_l2="on")
    fill(top, text(Random(1), 64 * KIB), 64 * KIB)
    oracle.qemu_io(top, ["write -P 9 4k 2k", "write -P 8 192k 2k", "write -z 194k 62k"])
    words = ("--base", base, "--extended-l2")
    output = prove(top, tmp_path / "output.qcow2", method, *words)
    assert [each.cluster for each in packed_clusters(output)] == [1, 3]
    held = [(extent.start, extent.end) for extent in oracle.map_of(output) if extent.depth == 0]
    assert (4 * KIB, 6 * KIB) in held


def test_a_chain_with_other_clusters_below_and_packed_ones(method: str, tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    make(base, 4 * MIB + 512, cluster_size=4 * KIB, compression_type="zstd")
    (tmp_path / "data").write_bytes(text(Random(2), 2 * MIB))
    oracle.qemu_io(base, [f"write -c -s {tmp_path / 'data'} 0 2M", "write -P 6 3M 100k"])
    make(top, 5 * MIB, backing=(base.name, "qcow2"), cluster_size=2 * MIB)
    oracle.qemu_io(top, ["write -P 1 700k 1k", "write -P 2 4999k 1k"])
    prove(top, tmp_path / "full.qcow2", method, "--cluster-size", "32k")
    prove(top, tmp_path / "delta.qcow2", method, "--cluster-size", "8k", "--base", base)


@pytest.mark.parametrize("size", [0, 512, 64 * KIB, 1 << 40])
def test_disks_that_hold_nothing(size: int, method: str, tmp_path: Path) -> None:
    source = tmp_path / "source.qcow2"
    make(source, size)
    prove(source, tmp_path / "output.qcow2", method, packed=False)


def test_zeros_that_are_written_out_take_no_room(method: str, tmp_path: Path) -> None:
    source = tmp_path / "source.qcow2"
    make(source, 32 * MIB, "write -P 0 0 32M")
    assert prove(source, tmp_path / "output.qcow2", method, packed=False).stat().st_size < MIB


def test_what_does_not_shrink_stays_plain(method: str, tmp_path: Path) -> None:
    source = tmp_path / "source.qcow2"
    make(source, 8 * MIB)
    fill(source, Random(3).randbytes(4 * MIB))
    plain = export(source, tmp_path / "plain.qcow2")
    assert prove(source, tmp_path / "output.qcow2", method, packed=False).stat().st_size == plain.stat().st_size


def test_thousands_of_packed_clusters_in_one_host_cluster(tmp_path: Path) -> None:
    """One byte over and over is packed into some twenty by zstd."""
    prove_crowd(128 * KIB, 5000, tmp_path)


@pytest.mark.long
def test_thousands_of_packed_clusters_in_one_host_cluster_of_2_mib(tmp_path: Path) -> None:
    prove_crowd(2 * MIB, 4200, tmp_path)


def prove_crowd(cluster_size: int, clusters: int, folder: Path) -> None:
    """Export a disk whose clusters all are one in the source, and see that they share a host cluster."""
    source = make(folder / "source.qcow2", clusters * cluster_size, cluster_size=cluster_size, compression_type="zstd")
    source.io(f"write -c -P 5 0 {cluster_size}")
    assert clusters <= cluster_size // 8, "one table has them all"
    source.write(source.l2_place(0), qcow2.words(*[source.l2_entry(0)] * clusters))
    output = prove(source.path, folder / "output.qcow2", "zstd")
    assert Counter(each.offset // cluster_size for each in packed_clusters(output)) == {1: clusters}


@pytest.mark.parametrize("cluster_size", [4 * KIB, 64 * KIB, 2 * MIB])
def test_other_readers_find_the_disk(cluster_size: int, tmp_path: Path) -> None:
    """Of deflate: those of the suite know no zstd. Of what QEMU itself packs, libqcow shows zeros for a part."""
    source = source_of(tmp_path, cluster_size, 40 if cluster_size < MIB else 8)
    output = prove(source, tmp_path / "output.qcow2", "deflate", "--level", "9")
    wanted = oracle.materialize(source, tmp_path / "wanted.raw").read_bytes()
    assert by_7zip(output, "qcow") == wanted
    assert by_dissect(output) == wanted


@pytest.mark.parametrize("level", [1, 6, 9])
def test_deflate_looks_back_4_kib_at_most(level: int, tmp_path: Path) -> None:
    """By what it has handed out before, zlib looks at that: so it hands out a few bytes at a time."""
    source = source_of(tmp_path, 64 * KIB)
    output = export(source, tmp_path / "output.qcow2", "--compress", "deflate", "--level", str(level))
    found = list(packed_clusters(output))
    assert found
    for each in found[:4]:
        stream, rest, length = zlib.decompressobj(-12), each.data, 0
        while length < 64 * KIB:
            part = stream.decompress(rest, 16)
            assert part
            length, rest = length + len(part), stream.unconsumed_tail
        assert length == 64 * KIB


def test_levels_differ(method: str, tmp_path: Path) -> None:
    source = source_of(tmp_path, 64 * KIB, 30)
    sizes = [
        prove(source, tmp_path / f"{level}.qcow2", method, "--level", str(level)).stat().st_size
        for level in (1, 9 if method == "deflate" else 19)
    ]
    assert sizes[0] > sizes[1]


@pytest.fixture
def packed_chain(method: str, tmp_path: Path) -> tuple[Path, Path]:
    """A base that is packed all through, by QEMU, and an overlay that hides some of it."""
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    make(base, 4 * MIB + 512, compression_type=FORMATS[method])
    (tmp_path / "data").write_bytes(text(Random(4), 4 * MIB + 512))
    oracle.qemu_io(base, [f"write -c -s {tmp_path / 'data'} 0 {4 * MIB + 512}"])
    make(top, 4 * MIB + 512, backing=(base.name, "qcow2"))
    oracle.qemu_io(top, ["write -P 5 700k 1k", "write -z 1M 64k", "write -P 6 2M 128k"])
    return base, top


def test_clusters_that_are_packed_the_same_way_are_carried_over(
    packed_chain: tuple[Path, Path], method: str, tmp_path: Path
) -> None:
    base, top = packed_chain
    before = {each.cluster: each.data for each in packed_clusters(base)}
    carried = prove(top, tmp_path / "carried.qcow2", method, "--level", "1")
    found = {each.cluster: each.data for each in packed_clusters(carried)}
    hidden = {10, 16, 32, 33}
    assert set(before) - set(found) == {16}
    for cluster, data in list(found.items())[:-1]:  # the last is little more than a sector
        common = min(len(data), len(before[cluster])) - 511
        assert (data[:common] == before[cluster][:common]) == (cluster not in hidden)
    anew = prove(top, tmp_path / "anew.qcow2", method, "--level", "1", "--packed", "expand")
    assert anew.read_bytes() != carried.read_bytes()


def test_clusters_that_are_packed_another_way_are_packed_anew(
    packed_chain: tuple[Path, Path], method: str, tmp_path: Path
) -> None:
    other = "zstd" if method == "deflate" else "deflate"
    output = prove(packed_chain[1], tmp_path / "output.qcow2", other)
    assert oracle.info(output)["format-specific"]["data"]["compression-type"] == FORMATS[other]
    assert len(list(packed_clusters(output))) == 64


def test_packed_clusters_stay_packed_in_a_delta_and_with_subclusters(
    packed_chain: tuple[Path, Path], method: str, tmp_path: Path
) -> None:
    base, top = packed_chain
    (tmp_path / "data").write_bytes(text(Random(5), MIB))
    middle = make(tmp_path / "middle.qcow2", 4 * MIB, backing=(top.name, "qcow2"), compression_type=FORMATS[method])
    middle.io(f"write -c -s {tmp_path / 'data'} 1M 1M", "write -P 9 1028k 4k")
    for words in ((), ("--extended-l2",)):
        output = prove(middle.path, tmp_path / f"output{len(words)}.qcow2", method, "--base", base, *words)
        assert {each.cluster for each in packed_clusters(output)} >= set(range(17, 32))


def test_nothing_that_lies_behind_packed_data_is_carried_over(method: str, tmp_path: Path) -> None:
    """Nor zeros in its place: where one cluster ends, the next begins."""
    secret, cluster = b"of another guest", 64 * KIB
    image = make(tmp_path / "image.qcow2", 8 * cluster, "write -P 1 0 64k", compression_type=FORMATS[method])
    packed = [pack(FORMATS[method], text(Random(seed), cluster)) for seed in range(3)]
    for index, data in enumerate(packed, 1):
        put(image, data + secret * 100, sectors=(len(data) + 1600) // 512, cluster=index)
    output = prove(image.path, tmp_path / "output.qcow2", method)
    assert b"".join(packed) in output.read_bytes()
    assert secret in image.path.read_bytes()
    assert secret not in output.read_bytes()
