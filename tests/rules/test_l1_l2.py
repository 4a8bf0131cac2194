"""docs/qcow2.md, 'L1 and L2': every bullet, on an image of 16 clusters of 64 KiB over a backing file full of 0xbb."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import vdifs
from tests.support.agreement import both_read, both_refuse, contents, format_error, qemu_contents
from tests.support.builder import CLUSTER, make, pattern
from tests.support.image_file import Image
from tests.support.qcow2 import COMPRESSED, COPIED, ZERO, compressed_entry, words
from tests.support.units import KIB, MIB

CLUSTERS = MIB // CLUSTER
BACKING = pattern(0xBB, MIB)


@pytest.fixture
def base(tmp_path: Path) -> Image:
    return make(tmp_path / "base.qcow2", MIB, "write -P 0xbb 0 1M")


@pytest.fixture
def image(tmp_path: Path, base: Image) -> Image:
    """Clusters 0 and 1 hold 1 and 2, the rest is in the backing file."""
    commands = ("write -P 1 0 64k", "write -P 2 64k 64k")
    return make(tmp_path / "image.qcow2", MIB, *commands, backing=("base.qcow2", "qcow2"))


@pytest.fixture
def extended(tmp_path: Path, base: Image) -> Image:
    """The same with extended L2 entries: subclusters of 2 KiB."""
    commands = ("write -P 1 0 64k", "write -P 2 64k 64k")
    return make(tmp_path / "image.qcow2", MIB, *commands, backing=("base.qcow2", "qcow2"), extended_l2="on")


def disk(*clusters: bytes) -> bytes:
    """Return the disk whose first clusters are these, the rest as in the backing file."""
    return b"".join(clusters) + BACKING[len(clusters) * CLUSTER :]


ONE, TWO, BELOW, ZEROS = pattern(1), pattern(2), pattern(0xBB), bytes(CLUSTER)


def test_the_image_that_the_others_change_is_read(image: Image) -> None:
    assert both_read(image) == disk(ONE, TWO)


def refused_on_reading(image: Image, match: str) -> None:
    """Both refuse to read the first cluster. vdifs says so when it resolves the tables, that is at open."""
    with format_error(match):
        contents(image)
    assert qemu_contents(image) is None, "QEMU reads it: a deviation"


# Offsets


@pytest.mark.parametrize("reserved", [1 << 56, 1 << 61, 1 << 62, 0x1FF])
def test_offset_mask_of_an_l1_entry_is_bits_9_to_55(image: Image, reserved: int) -> None:
    assert both_read(image.set_l1(0, image.l1_entry(0) | reserved)) == disk(ONE, TWO)


@pytest.mark.parametrize("reserved", [1 << 56, 1 << 60])
def test_offset_mask_of_an_l2_entry_is_bits_9_to_55(image: Image, reserved: int) -> None:
    assert both_read(image.set_l2(0, image.l2_entry(0) | reserved)) == disk(ONE, TWO)


def test_l1_entry_0_leaves_the_whole_range_unallocated(image: Image) -> None:
    assert both_read(image.set_l1(0, 0)) == BACKING


def test_l1_entry_0_with_copied_leaves_the_whole_range_unallocated(image: Image) -> None:
    assert both_read(image.set_l1(0, COPIED)) == BACKING


def test_an_unaligned_offset_in_the_l1_table_is_an_error(image: Image) -> None:
    refused_on_reading(image.set_l1(0, image.l1_entry(0) + 512), "L1 entry 0 points to 0x40200, no multiple of the clu")


def test_an_unaligned_offset_in_the_l2_table_is_an_error(image: Image) -> None:
    refused_on_reading(image.set_l2(1, image.l2_entry(1) + 512), "L2 entry 1 of the range points to 0x.*, no multiple")


def test_an_l2_table_in_a_hole_of_the_file_holds_nothing(image: Image) -> None:
    """As after a crash: the L1 table was written, the cluster of the L2 table was not."""
    table = image.append(b"")
    os.truncate(image.path, table + 2 * CLUSTER)
    assert both_read(image.set_l1(0, table | COPIED)) == BACKING
    image.write(table + 8 * 15, words(ZERO))
    assert both_read(image) == BACKING[:-CLUSTER] + ZEROS


# The bits of an L2 entry


def test_copied_has_no_meaning_for_a_reader(image: Image) -> None:
    image.set_l2(0, image.l2_entry(0) & ~COPIED)
    image.set_l1(0, image.l1_entry(0) & ~COPIED)
    assert both_read(image) == disk(ONE, TWO)


def test_bit_0_means_zeros(image: Image) -> None:
    assert both_read(image.set_l2(0, ZERO).set_l2(2, ZERO)) == disk(ZEROS, TWO, ZEROS)


def test_bit_0_with_an_offset_is_a_preallocated_zero(image: Image) -> None:
    assert both_read(image.set_l2(0, image.l2_entry(0) | ZERO)) == disk(ZEROS, TWO)


def test_bit_0_with_copied_and_no_offset_is_zeros(image: Image) -> None:
    assert both_read(image.set_l2(0, COPIED | ZERO)) == disk(ZEROS, TWO)


@pytest.mark.parametrize("entry", [ZERO, None], ids=["plain", "with an offset"])
def test_bit_0_in_version_2_is_an_error(tmp_path: Path, entry: int | None) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", compat="0.10")
    image.set_l2(0, image.l2_entry(0) | ZERO if entry is None else entry)
    refused_on_reading(image, "L2 entry 0 of the range marks zeros, which version 2 does not have")


@pytest.mark.parametrize("bit", [1, 5, 8, 57, 61])
def test_reserved_bits_are_ignored(image: Image, bit: int) -> None:
    assert both_read(image.set_l2(0, image.l2_entry(0) | 1 << bit).set_l2(2, 1 << bit)) == disk(ONE, TWO)


def test_offset_0_with_copied_is_unallocated(image: Image) -> None:
    assert both_read(image.set_l2(0, COPIED)) == disk(BELOW, TWO)


def test_an_entry_may_point_into_the_header(image: Image) -> None:
    """Any aligned offset but 0 is a place: the L1 table here. QEMU reads it, and so does vdifs."""
    table = image.get("l1_table_offset")
    found = both_read(image.set_l2(0, table | COPIED))
    assert found[:8] == words(image.l1_entry(0))


def test_two_entries_may_point_to_one_cluster(image: Image) -> None:
    assert both_read(image.set_l2(5, image.l2_entry(0) & ~COPIED)) == disk(ONE, TWO, BELOW, BELOW, BELOW, ONE)


# Compressed clusters


def deflated(data: bytes, window_bits: int = 12) -> bytes:
    stream = zlib.compressobj(wbits=-window_bits)
    return stream.compress(data) + stream.flush()


def put_compressed(image: Image, cluster: int, packed: bytes, within: int = 0, sectors: int | None = None) -> int:
    """Append `packed` from byte `within` of a new cluster on and point to it; return its offset.

    sectors: what the entry says, by default as many as the data touch.
    """
    offset = image.append(bytes(within) + packed) + within
    touched = (offset + len(packed) - 1) // 512 - offset // 512 + 1
    return set_compressed(image, cluster, offset, touched if sectors is None else sectors)


def set_compressed(image: Image, cluster: int, offset: int, sectors: int) -> int:
    image.set_l2(cluster, compressed_entry(offset, sectors - 1, image.get("cluster_bits")))
    return offset


@pytest.mark.parametrize("bits", [9, 12, 16, 21])
@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_compressed_clusters_are_read_at_every_cluster_size(tmp_path: Path, bits: int, method: str) -> None:
    size = 3 << bits
    commands = [f"write -c -P {n + 1} {n << bits} {1 << bits}" for n in range(2)]
    image = make(tmp_path / "image.qcow2", size, *commands, cluster_size=1 << bits, compression_type=method)
    assert image.l2_entry(0) & COMPRESSED
    assert both_read(image) == pattern(1, 1 << bits) + pattern(2, 1 << bits) + bytes(1 << bits)


@pytest.mark.parametrize("within", [0, 1, 511, 512, 513])
def test_compressed_data_begin_at_any_byte(image: Image, within: int) -> None:
    put_compressed(image, 2, deflated(pattern(7)), within)
    assert both_read(image) == disk(ONE, TWO, pattern(7))


def test_compressed_size_is_the_sectors_less_what_lies_before_the_offset(image: Image) -> None:
    """A stored block of 66 KiB that begins in mid-sector: one sector less than it touches is too few."""
    data = os.urandom(CLUSTER)
    stream = zlib.compressobj(0, wbits=-12)
    packed = stream.compress(data) + stream.flush()
    offset = put_compressed(image, 2, packed, 300)
    assert both_read(image) == disk(ONE, TWO, data)
    touched = (offset + len(packed) - 1) // 512 - offset // 512 + 1
    set_compressed(image, 2, offset, touched - 1)
    with format_error(f"compressed cluster at {offset:#x}"):
        contents(image)
    assert qemu_contents(image) is None


def test_compressed_sectors_are_at_most_two_clusters(image: Image) -> None:
    """The largest count in the entry says 256 sectors: more than the data have, all of them in the file."""
    offset = put_compressed(image, 2, deflated(pattern(7)).ljust(4 * CLUSTER, b"\x5a"), sectors=256)
    assert both_read(image) == disk(ONE, TWO, pattern(7))
    assert image.l2_entry(2) == COMPRESSED | 255 << 54 | offset


def test_compressed_trailing_bytes_are_allowed(image: Image) -> None:
    put_compressed(image, 2, deflated(pattern(7)) + b"garbage" * 100)
    assert both_read(image) == disk(ONE, TWO, pattern(7))


@pytest.mark.parametrize("length", [0, 1, CLUSTER - 1])
def test_compressed_data_of_less_than_a_cluster_are_an_error(image: Image, length: int) -> None:
    put_compressed(image, 2, deflated(pattern(7, length)))
    with format_error("expected 65536, a whole cluster|the compressed data are damaged"):
        contents(image)
    assert qemu_contents(image) is None


def test_compressed_data_of_more_than_a_cluster_give_its_first_bytes(image: Image) -> None:
    """Output is bounded by one cluster, for a deflate stream in QEMU as well."""
    put_compressed(image, 2, deflated(pattern(7) + pattern(8)))
    assert both_read(image) == disk(ONE, TWO, pattern(7))


def test_compressed_data_that_are_damaged_are_an_error_on_reading(image: Image) -> None:
    """The image opens, and its other clusters are read."""
    offset = put_compressed(image, 2, b"\xff" * 600)
    with vdifs.open(image.path, view="raw") as opened:
        assert opened.read_at(0, 2 * CLUSTER) == ONE + TWO
        with format_error(f"compressed cluster at {offset:#x}: the compressed data are damaged"):
            opened.read_at(2 * CLUSTER, 1)
        assert opened.read_at(3 * CLUSTER, CLUSTER) == BELOW
    assert qemu_contents(image) is None


def test_compressed_sectors_may_run_past_the_end_of_the_file(image: Image) -> None:
    packed = deflated(pattern(7))
    offset = put_compressed(image, 2, packed, sectors=200)
    os.truncate(image.path, offset + len(packed))
    assert both_read(image) == disk(ONE, TWO, pattern(7))


def test_compressed_sectors_beyond_the_end_of_the_file_are_zeros_and_so_an_error(image: Image) -> None:
    offset = put_compressed(image, 2, deflated(pattern(7)))
    os.truncate(image.path, offset)
    with format_error(f"compressed cluster at {offset:#x}"):
        contents(image)
    assert qemu_contents(image) is None


@pytest.fixture
def zstd_image(tmp_path: Path, base: Image) -> Image:
    return make(
        tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", backing=("base.qcow2", "qcow2"), compression_type="zstd"
    )


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def test_zstd_several_frames_make_a_cluster(zstd_image: Image) -> None:
    put_compressed(zstd_image, 1, zstd(pattern(7, 30000)) + zstd(pattern(8, CLUSTER - 30000)))
    assert both_read(zstd_image) == disk(ONE, pattern(7, 30000) + pattern(8, CLUSTER - 30000))


def test_zstd_trailing_bytes_are_allowed(zstd_image: Image) -> None:
    put_compressed(zstd_image, 1, zstd(pattern(7)) + b"garbage" * 100)
    assert both_read(zstd_image) == disk(ONE, pattern(7))


def test_zstd_frames_of_less_than_a_cluster_are_an_error(zstd_image: Image) -> None:
    put_compressed(zstd_image, 1, zstd(pattern(7, CLUSTER - 1)))
    with format_error("expected 65536, a whole cluster|the compressed data are damaged"):
        contents(zstd_image)
    assert qemu_contents(zstd_image) is None


def test_zstd_frame_of_more_than_a_cluster_is_an_error(zstd_image: Image) -> None:
    """QEMU: the frame must end with the cluster."""
    put_compressed(zstd_image, 1, zstd(pattern(7, CLUSTER + 1)))
    assert qemu_contents(zstd_image) is None
    with format_error("compressed cluster at 0x"):
        contents(zstd_image)


HALVES = (pattern(7, 30000), pattern(8, CLUSTER - 30000))


def unfinished_zstd(*parts: bytes, checksum: bool = False) -> bytes:
    """Return a frame that lacks its end, each of `parts` in blocks of its own."""
    stream = zstandard.ZstdCompressor(write_checksum=checksum).compressobj()
    return b"".join(stream.compress(part) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for part in parts)


def zstd_block(last: int, kind: int, size: int, data: bytes = b"") -> bytes:
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + data


@pytest.mark.parametrize(
    ("packed", "wanted"),
    [
        (unfinished_zstd(*HALVES), None),
        (unfinished_zstd(*HALVES) + b"\xff" * 50, None),
        (unfinished_zstd(*HALVES) + zstd_block(1, 0, 0), HALVES),
        (unfinished_zstd(*HALVES) + 9999 * zstd_block(0, 0, 0) + zstd_block(1, 0, 0), HALVES),
        (unfinished_zstd(*HALVES) + zstd_block(1, 1, 0, b"x"), HALVES),
        (unfinished_zstd(*HALVES) + zstd_block(1, 0, 1, b"x"), None),
        (unfinished_zstd(*HALVES) + zstd_block(1, 3, 0), None),
        (unfinished_zstd(*HALVES, checksum=True) + zstd_block(1, 0, 0, b"sums"), None),
        (zstd(HALVES[0]) + unfinished_zstd(HALVES[1]), None),
        (unfinished_zstd(HALVES[0]) + zstd(HALVES[1]), None),
        (zstd(b"") * 1000 + zstd(HALVES[0] + HALVES[1]), HALVES),
    ],
    ids=[
        "no end", "no end but garbage", "an empty block", "10000 empty blocks", "an empty block of one byte's copies",
        "a byte more", "a block of unknown kind", "a wrong checksum", "no end of the second", "no end of the first",
        "empty frames before",
    ],
)  # fmt: skip
def test_zstd_frames_must_end_with_the_cluster(
    packed: bytes, wanted: tuple[bytes, bytes] | None, zstd_image: Image
) -> None:
    """That of the first 64 KiB all are there is not enough for QEMU."""
    put_compressed(zstd_image, 1, packed)
    if wanted is not None:
        assert both_read(zstd_image) == disk(ONE, b"".join(wanted))
        return
    assert qemu_contents(zstd_image) is None
    with format_error("compressed cluster at 0x"):
        contents(zstd_image)


# Extended L2 entries

LOW_HALF, ALL = 0xFFFF, 0xFFFF_FFFF
SUB = 2 * KIB


def test_extended_entries_have_one_bit_per_subcluster(extended: Image) -> None:
    """Low half of the cluster allocated, the last eight subclusters zeros, the rest in the backing file."""
    extended.set_l2(0, extended.l2_entry(0), 0xFF00_0000 << 32 | LOW_HALF)
    wanted = pattern(1, 16 * SUB) + pattern(0xBB, 8 * SUB) + bytes(8 * SUB)
    assert both_read(extended) == disk(wanted, TWO)


def test_extended_entries_are_16_bytes_so_a_table_holds_half_as_many(tmp_path: Path) -> None:
    per_table = 16 * KIB // 16
    size = (per_table + 1) * 16 * KIB
    image = make(tmp_path / "image.qcow2", size, cluster_size=16 * KIB, extended_l2="on")
    image.io(f"write -P 1 {size - 16 * KIB} 16k")
    assert image.get("l1_size") == 2
    assert both_read(image)[-16 * KIB - 1 :] == b"\0" + pattern(1, 16 * KIB)


def test_extended_subclusters_are_at_least_512_bytes(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 512 512", cluster_size=16 * KIB, extended_l2="on")
    assert image.l2_bitmap(0) == 0b10
    assert both_read(image)[:1536] == bytes(512) + pattern(1, 512) + bytes(512)


def test_extended_bits_both_set_are_an_error(extended: Image) -> None:
    extended.set_l2(0, extended.l2_entry(0), 1 << 32 | 1)
    refused_on_reading(extended, "subcluster bitmap 00000001:00000001, which contradicts itself")


def test_extended_allocated_with_offset_0_is_an_error(extended: Image) -> None:
    refused_on_reading(extended.set_l2(0, 0, 1), "subcluster bitmap 00000000:00000001, which contradicts itself")


def test_extended_zero_bits_with_offset_0_are_zeros(extended: Image) -> None:
    assert both_read(extended.set_l2(0, 0, LOW_HALF << 32)) == disk(bytes(16 * SUB) + pattern(0xBB, 16 * SUB), TWO)


def test_extended_offset_with_no_bit_set_is_unallocated(extended: Image) -> None:
    assert both_read(extended.set_l2(0, extended.l2_entry(0), 0)) == disk(BELOW, TWO)


def test_extended_bit_0_of_the_entry_is_reserved(extended: Image) -> None:
    assert both_read(extended.set_l2(0, extended.l2_entry(0) | ZERO, ALL)) == disk(ONE, TWO)


def test_extended_bitmap_of_a_compressed_cluster_is_ignored(extended: Image) -> None:
    put_compressed(extended, 0, deflated(pattern(7)))
    for bitmap in (0, ALL, ALL << 32, ALL << 32 | ALL):
        extended.set_l2(0, extended.l2_entry(0), bitmap)
        assert both_read(extended) == disk(pattern(7), TWO)


def test_extended_unaligned_offset_is_an_error(extended: Image) -> None:
    refused_on_reading(extended.set_l2(0, extended.l2_entry(0) + 2048, ALL), "L2 entry 0 .* no multiple of the cluster")


# The end of the file


@pytest.mark.parametrize("left", [1, 512, CLUSTER - 1])
def test_a_last_cluster_partly_beyond_the_end_is_zero_padded(image: Image, left: int) -> None:
    assert image.data_offset(1) > image.data_offset(0)
    os.truncate(image.path, image.data_offset(1) + left)
    assert both_read(image) == disk(ONE, pattern(2, left).ljust(CLUSTER, b"\0"))


def test_an_l2_table_partly_beyond_the_end_is_zero_padded(tmp_path: Path, base: Image) -> None:
    """The L2 table is the last cluster of the file, of which 16 bytes are there."""
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", backing=("base.qcow2", "qcow2"))
    table = image.append(words(image.l2_entry(0), ZERO))
    image.set_l1(0, table | COPIED)
    os.truncate(image.path, table + 16)
    assert both_read(image) == disk(ONE, ZEROS)


# Refcounts


def all_refcounts_gone(image: Image) -> None:
    image.write(image.get("refcount_table_offset"), bytes(CLUSTER))


def refcount_table_beyond_the_end(image: Image) -> None:
    image.set(refcount_table_offset=1 << 40)


def refcounts_wrong(image: Image) -> None:
    block = image.words(image.get("refcount_table_offset"), 1)[0]
    image.write(block, b"\7\7" * 100)


@pytest.mark.parametrize("damage", [all_refcounts_gone, refcount_table_beyond_the_end, refcounts_wrong])
def test_refcounts_are_not_needed_to_read(image: Image, damage: Callable[[Image], None]) -> None:
    damage(image)
    assert both_read(image) == disk(ONE, TWO)


def test_refcounts_of_the_output_are_exact(image: Image, tmp_path: Path) -> None:
    """Whatever the source's are; `both_read` asks qemu-img check of the full image, this of the delta."""
    from tests.support import oracle

    refcounts_wrong(image)
    delta = tmp_path / "delta.qcow2"
    with vdifs.open(image.path, base=tmp_path / "base.qcow2") as opened:
        delta.write_bytes(b"".join(opened.stream()))
    oracle.check(delta)
    assert both_read(Image(delta)) == disk(ONE, TWO)


def test_an_l1_table_that_ends_with_the_file_is_zero_padded(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB)
    os.truncate(image.path, image.get("l1_table_offset") + 8)
    assert both_read(image) == bytes(MIB)


def test_tables_that_a_header_places_on_one_another_are_read(image: Image) -> None:
    """The refcount table says nothing to a reader: it may even be the L1 table."""
    image.set(refcount_table_offset=image.get("l1_table_offset"))
    assert contents(image) == disk(ONE, TWO) == qemu_contents(image)


def test_an_image_damaged_in_one_cluster_is_refused_as_a_whole_when_it_is_opened(image: Image) -> None:
    """The tables are resolved at open; nothing that they say is found out too late."""
    image.set_l2(15, 0x123400 | COPIED)
    with format_error(r"image.qcow2: at guest offset 0x0: L2 entry 15 of the range points to 0x123400"):
        vdifs.open(image.path)


def test_corrupt_entries_beyond_the_disk_are_not_looked_at(image: Image) -> None:
    assert both_read(image.set_l2(16, 0x123400 | COPIED)) == disk(ONE, TWO)


def test_the_unused_part_of_the_last_cluster_is_not_part_of_the_disk(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", CLUSTER, "write -P 1 0 64k").set(size=CLUSTER - 512)
    assert both_read(image) == pattern(1, CLUSTER - 512)
    both_refuse(image.set(size=0, l1_size=0, cluster_bits=8), "cluster_bits is 8")
