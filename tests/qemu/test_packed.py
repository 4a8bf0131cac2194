"""Clusters that stay packed in the output, as they are in a source: to QEMU, and smaller than what they expand to."""

import os
import shutil
import zlib
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle
from tests.support.builder import make
from tests.support.command_line import answer, run_vdifs
from tests.support.copying import copy_in_pieces
from tests.support.image_file import Image
from tests.support.packing import METHODS, pack, put
from tests.support.proofs import prove_delta, prove_full
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB, SECTOR

CLUSTER = 64 * KIB
EXPAND = ("--packed", "expand")
SECRET = b"secret of another"


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(folder: Path, name: str, size: int, generation: int, **options: str | int) -> Image:
    """Make an image of stamped data that is compressed all through."""
    image = make(folder / name, size, backing=None, **options)
    data = folder / f"{name}.data"
    data.write_bytes(stamped(0, size, generation))
    return image.io(f"write -c -s {data} 0 {size}")


def in_both_ways(image: str | Path, folder: Path, *, like: Path) -> tuple[int, int]:
    """Prove the full image with packed clusters and without; return how long they are."""
    kept = prove_full(image, folder / "kept.qcow2", like=like)
    expanded = prove_full(image, folder / "expanded.qcow2", like=like, words=EXPAND)
    sizes = kept.stat().st_size, expanded.stat().st_size
    with vdifs.open(kept) as again:  # a synthetic file is a source like any other
        assert again.size == sizes[0]
    for file in (kept, expanded):
        file.unlink()
    return sizes


@pytest.mark.parametrize("bits", range(12, 22))
def test_packed_clusters_stay_so_unless_something_hides_a_part_of_them(bits: int, method: str, tmp_path: Path) -> None:
    cluster, count = 1 << bits, 24
    base = written(tmp_path, "base.qcow2", count * cluster, 1, cluster_size=cluster, compression_type=method)
    top = make(
        tmp_path / "top.qcow2",
        count * cluster,
        f"write -P 5 {3 * cluster + 512} 512",
        f"write -z {7 * cluster} {cluster}",
        f"write -P 6 {20 * cluster} {2 * cluster}",
        backing=(base.path.name, "qcow2"),
        cluster_size=cluster,
    )
    kept, expanded = in_both_ways(top.path, tmp_path, like=top.path)
    assert kept < expanded
    with vdifs.open(top.path) as opened:
        assert 0 < opened.packed < opened.size
        assert opened.size <= base.path.stat().st_size + top.path.stat().st_size
        copy_in_pieces(opened, tmp_path / "pieces.qcow2", Random(bits))
    oracle.compare(tmp_path / "pieces.qcow2", top.path)
    plain = [extent for extent in oracle.map_of(tmp_path / "pieces.qcow2") if extent.data and extent.offset is not None]
    assert [(extent.start // cluster, extent.end // cluster) for extent in plain] == [(3, 4), (20, 22)]
    delta = prove_delta(top.path, base.path, base.path, tmp_path / "delta.qcow2", like=top.path)
    assert not vdifs.open(top.path, base=base.path).packed, "what the base holds packed is not the delta's"
    assert delta.stat().st_size < expanded


def test_what_an_image_packs_above_the_base_stays_packed_in_its_delta(method: str, tmp_path: Path) -> None:
    base = written(tmp_path, "base.qcow2", 2 * MIB, 1)
    middle = make(tmp_path / "middle.qcow2", 2 * MIB, backing=("base.qcow2", "qcow2"), compression_type=method)
    middle.io(f"write -c -s {tmp_path / 'base.qcow2.data'} 1M 256k")
    top = make(tmp_path / "top.qcow2", 2 * MIB, "write -P 1 1088k 1k", backing=("middle.qcow2", "qcow2"))
    delta = prove_delta(top.path, base.path, base.path, tmp_path / "delta.qcow2", like=top.path)
    with vdifs.open(top.path, base=base.path) as opened:
        assert opened.allocated == 4 * CLUSTER
        assert opened.packed > 0
        assert opened.size == delta.stat().st_size < 4 * CLUSTER + 5 * CLUSTER


def test_packed_clusters_have_subclusters_of_data_around_them(method: str, tmp_path: Path) -> None:
    base = written(tmp_path, "base.qcow2", 2 * MIB, 1, compression_type=method, extended_l2="on")
    top = make(
        tmp_path / "top.qcow2",
        2 * MIB,
        "write -P 5 3k 1k",
        "write -z 128k 2k",
        "write -z 256k 64k",
        "discard 512k 64k",
        backing=("base.qcow2", "qcow2"),
        extended_l2="on",
    )
    for words in ((), ("--extended-l2",)):
        kept = prove_full(top.path, tmp_path / f"kept{words}.qcow2", like=top.path, words=words)
        plain = prove_full(top.path, tmp_path / f"plain{words}.qcow2", like=top.path, words=(*words, *EXPAND))
        assert kept.stat().st_size < plain.stat().st_size
        prove_delta(top.path, base.path, base.path, tmp_path / f"delta{words}.qcow2", like=top.path, words=words)
        prove_delta(base.path, base.path, base.path, tmp_path / f"own{words}.qcow2", like=base.path, words=words)


@pytest.mark.parametrize("size", [5 * CLUSTER - 512, 5 * CLUSTER + 512, 5 * CLUSTER], ids=["short", "long", "whole"])
@pytest.mark.parametrize("seen", [4 * CLUSTER + 1024, 5 * CLUSTER + 1024, 7 * CLUSTER])
def test_the_last_cluster_of_a_disk_stays_packed_where_its_layer_ends_with_the_disk(
    size: int, seen: int, method: str, tmp_path: Path
) -> None:
    base = written(tmp_path, "base.qcow2", size, 1, compression_type=method)
    top = make(tmp_path / "top.qcow2", seen, backing=("base.qcow2", "qcow2"))
    in_both_ways(base.path, tmp_path, like=base.path)
    in_both_ways(top.path, tmp_path, like=top.path)
    for image, virtual_size in ((base.path, size), (top.path, seen)):
        with vdifs.open(image) as opened, vdifs.open(image, packed="expand") as expanded:
            whole = size // CLUSTER if virtual_size != size else -(-size // CLUSTER)
            packed = min(whole, virtual_size // CLUSTER) if virtual_size != size else whole
            assert opened.packed, f"{packed} clusters"
            assert opened.size < expanded.size
        output = tmp_path / "mapped.qcow2"
        assert run_vdifs("export", image, output, "--force").status == 0
        assert len(plain_clusters(output)) == -(-min(size, virtual_size) // CLUSTER) - packed


def test_packed_clusters_that_the_end_of_the_file_cuts_stay_packed(method: str, tmp_path: Path) -> None:
    image = written(tmp_path, "image.qcow2", 4 * CLUSTER, 1, compression_type=method)
    packed = pack(method, stamped(CLUSTER, CLUSTER, 2))
    put(image, packed, sectors=100)
    os.truncate(image.path, (image.l2_entry(1) & ((1 << 54) - 1)) + len(packed))
    kept, expanded = in_both_ways(image.path, tmp_path, like=image.path)
    assert kept < expanded


def test_a_file_is_packed_in_one_way_that_of_most_of_its_clusters(tmp_path: Path) -> None:
    for name, most, few in (("deflate", "zlib", "zstd"), ("zstd", "zstd", "zlib")):
        folder = tmp_path / name
        folder.mkdir()
        written(folder, "base.qcow2", 2 * MIB, 1, compression_type=most)
        top = make(folder / "top.qcow2", 2 * MIB, backing=("base.qcow2", "qcow2"), compression_type=few)
        (folder / "data").write_bytes(stamped(MIB, 192 * KIB, 2))
        top.io(f"write -c -s {folder / 'data'} 1M 192k")
        kept = prove_full(top.path, folder / "full.qcow2", like=top.path)
        assert oracle.info(kept)["format-specific"]["data"]["compression-type"] == most
        assert len(plain_clusters(kept)) == 3
        in_both_ways(top.path, folder, like=top.path)


def plain_clusters(file: Path) -> list[int]:
    """Return the guest clusters that a file holds as they are: of packed ones QEMU's map tells no offset."""
    return sorted(
        {
            cluster
            for extent in oracle.map_of(file)
            if extent.data and extent.offset is not None
            for cluster in range(extent.start // CLUSTER, -(-extent.end // CLUSTER))
        }
    )


def test_packed_clusters_of_another_size_are_expanded(method: str, tmp_path: Path) -> None:
    base = written(tmp_path, "base.qcow2", 2 * MIB, 1, cluster_size=32 * KIB, compression_type=method)
    top = make(tmp_path / "top.qcow2", 2 * MIB, backing=("base.qcow2", "qcow2"))
    kept, expanded = in_both_ways(top.path, tmp_path, like=top.path)
    assert kept == expanded
    output = prove_full(top.path, tmp_path / "32k.qcow2", like=top.path, words=("--cluster-size", "32k"))
    assert output.stat().st_size < expanded
    with vdifs.open(base.path) as opened:
        assert opened.packed


def test_snapshots_and_the_active_state_keep_their_own_packed_clusters(method: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(stamped(0, MIB, 1))
    image = make(tmp_path / "image.qcow2", 2 * MIB, compression_type=method)
    image.io(f"write -c -s {tmp_path / 'data'} 0 1M")
    oracle.qemu_img("snapshot", "-c", "before", image.path)
    image.io(f"write -c -s {tmp_path / 'data'} 1M 1M", "write -P 7 512k 64k", "discard 0 64k")
    back = Path(shutil.copy(image.path, tmp_path / "back.qcow2"))
    oracle.qemu_img("snapshot", "-a", "before", back)
    for name, like in ((f"{image.path}@before", back), (str(image.path), image.path)):
        kept, expanded = in_both_ways(name, tmp_path, like=like)
        assert kept < expanded


def test_nothing_that_lies_behind_packed_data_is_passed_on(method: str, tmp_path: Path) -> None:
    """Clusters that state more than they need, and others of which the last sector holds what is not theirs."""
    image = written(tmp_path, "image.qcow2", 16 * CLUSTER, 1, compression_type=method)
    rng = Random(5)
    for cluster in range(1, 15, 2):
        packed = pack(method, stamped(cluster * CLUSTER, CLUSTER, 2))
        offset = image.append(b"") + rng.randrange(512)
        image.write(offset, packed + SECRET * 200)
        put(image, packed, at=offset, sectors=(offset % 512 + len(packed) + 511) // 512 + cluster % 3, cluster=cluster)
        put(image, packed, at=offset, cluster=cluster) if cluster == 13 else None
    assert SECRET in image.path.read_bytes()
    with vdifs.open(image.path) as opened:
        whole = opened.read_at(0, opened.size)
        assert opened.packed
        assert SECRET[:4] not in whole
        again = b"".join(opened.read_at(offset, 1000) for offset in range(0, opened.size, 1000))
        assert again == whole, "what is known of the ends makes no difference"
    in_both_ways(image.path, tmp_path, like=image.path)


def test_of_two_clusters_in_a_sector_neither_shows_what_lies_between(method: str, tmp_path: Path) -> None:
    image = written(tmp_path, "image.qcow2", 4 * CLUSTER, 1, compression_type=method)
    first, second = (pack(method, stamped(cluster * CLUSTER, CLUSTER, 2)) for cluster in (1, 2))
    offset = image.append(bytes(1024))
    gap = 20
    image.write(offset, first + SECRET[:gap] + second + SECRET)
    assert (len(first) + gap) % SECTOR, "the second begins in the last sector of the first"
    put(image, first, at=offset)
    put(image, second, at=offset + len(first) + len(SECRET[:gap]), cluster=2)
    with vdifs.open(image.path) as opened:
        whole = opened.read_at(0, opened.size)
    assert SECRET[:4] not in whole
    assert first in whole
    assert second in whole
    in_both_ways(image.path, tmp_path, like=image.path)


def test_clusters_that_share_their_packed_bytes_or_overlap_read_the_same(method: str, tmp_path: Path) -> None:
    """No tool writes these: one stream of two clusters, a stream in the middle of another, an entry of two clusters."""
    image = written(tmp_path, "image.qcow2", 8 * CLUSTER, 1, compression_type=method)
    inner = pack(method, stamped(CLUSTER, CLUSTER, 2))
    outer = pack(method, inner.ljust(CLUSTER, b"x"))
    offset = image.append(bytes(512)) + 100
    put(image, inner, at=offset, cluster=1)
    image.set_l2(2, image.l2_entry(1))
    image.set_l2(3, image.l2_entry(1))
    put(image, outer, at=image.append(bytes(512)) + 3, cluster=4)
    at = image.path.read_bytes().find(inner, offset + 1)
    if at > 0:  # zstd and deflate store what does not shrink
        put(image, inner, at=at, cluster=5)
    in_both_ways(image.path, tmp_path, like=image.path)


@pytest.mark.parametrize("damage", [b"\xff" * 1000, bytes(1024)], ids=["no stream", "zeros"])
def test_a_damaged_packed_cluster_fails_to_read_and_is_not_exported(damage: bytes, method: str, tmp_path: Path) -> None:
    image = written(tmp_path, "image.qcow2", 8 * CLUSTER, 1, compression_type=method)
    put(image, damage, cluster=3)
    with vdifs.open(image.path) as opened:
        size = answer("measure", image.path)["required"]
        assert opened.size == size
        failed = [offset for offset in range(0, size, 512) if not reads(opened, offset)]
        assert failed
        assert failed[-1] - failed[0] < len(damage) + 512, "the others are read"
        assert reads(opened, 0), "so are the tables"
    ended = run_vdifs("export", image.path, tmp_path / "output.qcow2", "--progress", "none")
    assert (ended.status, list(tmp_path.glob("*output*"))) == (1, [])
    assert "image.qcow2" in ended.err
    assert "compressed" in ended.err


def reads(image: vdifs.Image, offset: int) -> bool:
    try:
        image.read_at(offset, 512)
    except vdifs.FormatError:
        return False
    return True


def test_a_stream_that_does_not_end_is_not_passed_on(tmp_path: Path) -> None:
    """QEMU takes the first cluster of it; how many of its bytes that takes is not known."""
    image = written(tmp_path, "image.qcow2", 4 * CLUSTER, 1)
    packer = zlib.compressobj(wbits=-12)
    put(image, packer.compress(stamped(CLUSTER, CLUSTER, 2)) + packer.flush(zlib.Z_SYNC_FLUSH))
    with vdifs.open(image.path) as opened, pytest.raises(vdifs.FormatError, match="compressed data"):
        opened.read_at(0, opened.size)


@pytest.mark.parametrize("clusters", [2, 10])
def test_of_a_stream_of_more_than_a_cluster_all_is_passed_on_and_nothing_behind(clusters: int, tmp_path: Path) -> None:
    image = written(tmp_path, "image.qcow2", 4 * CLUSTER, 1)
    packed = pack("zlib", stamped(CLUSTER, clusters * CLUSTER, 2))
    put(image, packed + SECRET)
    with vdifs.open(image.path) as opened:
        whole = opened.read_at(0, opened.size)
        assert packed in whole
        assert SECRET not in whole
    in_both_ways(image.path, tmp_path, like=image.path)


def test_thousands_of_packed_clusters_lie_in_one(method: str, tmp_path: Path) -> None:
    """Clusters of 2 MiB of a few bytes: a sector of the output each, or less where they lie together in the source."""
    count, cluster = 5000, 2 * MIB
    image = make(tmp_path / "image.qcow2", count * cluster, cluster_size=cluster, compression_type=method)
    image.io("write -c -P 1 0 2M")
    entry = image.l2_entry(0)
    for index in range(1, count):
        image.set_l2(index, entry)
    with vdifs.open(image.path) as opened:
        assert opened.packed == count * -(-packed_length(image, method) // SECTOR) * SECTOR
        assert opened.allocated == count * cluster
    exported = tmp_path / "output.qcow2"
    assert run_vdifs("export", image.path, exported, "--progress", "none").status == 0
    oracle.check(exported)
    for place in (0, 4096, count - 1):
        oracle.qemu_io(exported, [f"read -P 1 {place * cluster} {cluster}"])


def packed_length(image: Image, method: str) -> int:
    return len(pack(method, b"\1" * 2 * MIB)) if method == "zlib" else stated_length(image)


def stated_length(image: Image) -> int:
    bits = 62 - (21 - 8)
    entry = image.l2_entry(0)
    return ((entry & ~(3 << 62)) >> bits) * SECTOR + SECTOR - (entry & ((1 << bits) - 1)) % SECTOR


def test_the_etag_tells_packed_from_expanded_only_where_they_differ(method: str, tmp_path: Path) -> None:
    packed = written(tmp_path, "packed.qcow2", MIB, 1, compression_type=method)
    plain = make(tmp_path / "plain.qcow2", MIB, "write -P 1 0 64k")
    for image, differ in ((packed, True), (plain, False)):
        with vdifs.open(image.path) as kept, vdifs.open(image.path, packed="expand") as expanded:
            assert (kept.etag != expanded.etag) == differ
            assert bool(kept.packed) == differ
            assert not expanded.packed
