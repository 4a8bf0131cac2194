"""docs/qcow2.md, 'Header': every row of its table."""

from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.agreement import both_read, both_refuse, contents, format_error, qemu_contents
from tests.support.builder import CLUSTER, make, pattern
from tests.support.image_file import Image
from tests.support.qcow2 import FEATURE_NAME, FEATURE_NAMES, SNAPSHOT, extension
from tests.support.units import KIB, MIB
from vdifs.chain.policy import Policy
from vdifs.errors import UnsupportedError
from vdifs.report.audit import Severity, audit

WRITTEN = pattern(1) + bytes(MIB - CLUSTER)
INT64_MAX = (1 << 63) - 1


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image of 1 MiB with one data cluster, of version 3 with a header of 112 bytes."""
    return make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k")


@pytest.fixture
def old_image(tmp_path: Path) -> Image:
    """The same in version 2."""
    return make(tmp_path / "old.qcow2", MIB, "write -P 1 0 64k", compat="0.10")


def test_the_image_that_the_others_damage_is_read(image: Image, old_image: Image) -> None:
    assert both_read(image) == both_read(old_image) == WRITTEN
    assert image.get("header_length") == 112


# 0: magic


def test_magic_another_first_byte_is_no_qcow2_image(image: Image) -> None:
    both_refuse(image.write(0, b"q"), r"not a qcow2, VHD, VHDX, VMDK or VDI image: its first bytes are not 'QFI")


@pytest.mark.parametrize("length", [0, 3, 4, 71, 72, 103])
def test_magic_a_file_that_ends_within_the_header_is_refused(image: Image, length: int) -> None:
    with image.path.open("r+b") as file:
        file.truncate(length)
    both_refuse(
        image, "not a qcow2, VHD, VHDX, VMDK or VDI image" if length < 4 else f"the header ends after {length} bytes"
    )


# 4: version


@pytest.mark.parametrize("version", [0, 1, 4, 0xFFFFFFFF])
def test_version_only_2_and_3_are_read(image: Image, version: int) -> None:
    image.set(version=version)
    both_refuse(image, f"qcow2 version {version} is not supported", kind=UnsupportedError, code=95)


# 8, 16: backing file


def test_backing_file_offset_0_makes_the_size_meaningless(image: Image) -> None:
    image.set(backing_file_offset=0, backing_file_size=0xFFFFFFFF)
    assert both_read(image) == WRITTEN


def test_backing_file_offset_behind_the_first_cluster_is_refused(image: Image) -> None:
    both_refuse(image.set(backing_file_offset=CLUSTER + 1, backing_file_size=1), "at 0x10001, outside the first clus")


def test_backing_file_offset_at_the_end_of_the_first_cluster_is_an_empty_name(image: Image) -> None:
    assert both_read(image.set(backing_file_offset=CLUSTER, backing_file_size=0)) == WRITTEN


def test_backing_file_size_is_at_most_1023(image: Image) -> None:
    image.set(backing_file_offset=1024, backing_file_size=1024)
    both_refuse(image, "name is 1024 bytes long, at most 1023 are allowed")


def test_backing_file_size_ends_with_the_first_cluster(image: Image) -> None:
    image.set(backing_file_offset=CLUSTER - 10, backing_file_size=11)
    both_refuse(image, "name is 11 bytes long, at most 10 are allowed")


def test_backing_file_name_may_fill_1023_bytes_and_the_cluster_up_to_its_end(tmp_path: Path, image: Image) -> None:
    name = "./" * 500 + "image.qcow2"
    name = name.rjust(1023, "/") if name.startswith("/") else "./" * ((1023 - len("image.qcow2")) // 2) + "image.qcow2"
    name = name if len(name) == 1023 else "." + "/" * (1023 - len(name)) + name[1:]
    top = make(tmp_path / "top.qcow2", MIB)
    offset = CLUSTER - len(name)
    top.extensions().set(backing_file_offset=offset, backing_file_size=len(name)).write(offset, name.encode())
    assert len(name) == 1023
    assert both_read(top) == WRITTEN


def test_backing_file_name_has_no_nul_at_its_end(tmp_path: Path, image: Image) -> None:
    """What follows the name is not part of it, and the name needs no end mark."""
    top = make(tmp_path / "top.qcow2", MIB, backing=("image.qcow2", "qcow2"))
    end = top.get("backing_file_offset") + len("image.qcow2")
    top.write(end, b"garbage")
    assert both_read(top) == WRITTEN


# 20: cluster_bits


@pytest.mark.parametrize("bits", [0, 8, 22, 64, 0xFFFFFFFF])
def test_cluster_bits_is_9_to_21(image: Image, bits: int) -> None:
    both_refuse(image.set(cluster_bits=bits), f"cluster_bits is {bits}, expected 9 to 21")


@pytest.mark.parametrize("bits", [9, 21])
def test_cluster_bits_of_9_and_21_are_read(tmp_path: Path, bits: int) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", cluster_size=1 << bits)
    assert image.get("cluster_bits") == bits
    assert both_read(image) == WRITTEN


def test_cluster_bits_is_at_least_14_with_extended_l2(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, extended_l2="on", cluster_size=16 * KIB)
    assert both_read(image) == bytes(MIB)
    image.set(cluster_bits=13, l1_size=4)
    both_refuse(image, "cluster_bits is 13, but extended L2 entries need at least 14")


# 24: size


@pytest.mark.parametrize(("size", "virtual_size"), [(1000, 512), (511, 0), (CLUSTER + 1, CLUSTER), (0, 0)])
def test_size_is_rounded_down_to_a_sector(image: Image, size: int, virtual_size: int) -> None:
    assert both_read(image.set(size=size)) == WRITTEN[:virtual_size]
    with vdifs.open(image.path) as opened:
        assert opened.virtual_size == virtual_size


# 32: crypt_method


@pytest.mark.parametrize(("method", "name"), [(1, "AES"), (2, "LUKS")])
def test_crypt_method_1_and_2_are_refused_by_name(image: Image, method: int, name: str) -> None:
    image.set(crypt_method=method)
    both_refuse(image, rf"encrypted \({name}\)", kind=UnsupportedError, code=95)


def test_crypt_method_1_as_qemu_writes_it_is_refused_by_name(tmp_path: Path) -> None:
    image = Image(tmp_path / "image.qcow2")
    options = ["--object", "secret,id=s,data=abc", "-o", "encrypt.format=aes,encrypt.key-secret=s"]
    oracle.qemu_img("create", "-q", *options, "-f", "qcow2", image.path, "1M")
    assert image.get("crypt_method") == 1
    both_refuse(image, r"encrypted \(AES\)", kind=UnsupportedError, code=95)


def test_crypt_method_3_is_refused(image: Image) -> None:
    both_refuse(image.set(crypt_method=3), "crypt_method is 3, expected 0 to 2")


# 36, 40: l1_size, l1_table_offset


def test_l1_table_offset_is_aligned(image: Image) -> None:
    both_refuse(
        image.set(l1_table_offset=image.get("l1_table_offset") + 8), "the L1 table is at 0x30008, which is no m"
    )


def test_l1_size_is_at_most_32_mib_in_bytes(image: Image) -> None:
    both_refuse(image.set(l1_size=(32 << 20) // 8 + 1), "the L1 table is 33554440 bytes long, at most 33554432")


@pytest.mark.parametrize(("size", "needed"), [(1, 1), ((512 << 20) + 1, 2), (1 << 62, 8589934592)])
def test_l1_size_is_what_the_size_needs(image: Image, size: int, needed: int) -> None:
    both_refuse(image.set(size=size, l1_size=needed - 1 if needed < 3 else 1), f"needs {needed} entries")


def test_l1_entries_beyond_the_disk_hold_vm_state_and_are_ignored(image: Image) -> None:
    image.set(l1_size=3).set_l1(1, 0x0FFF_FFFF_FFFF_FE00 & ~0xFFFF).set_l1(2, image.l1_entry(0))
    assert both_read(image) == WRITTEN


def test_l1_size_0_suits_an_empty_disk(image: Image) -> None:
    assert both_read(image.set(size=0, l1_size=0)) == b""


# 48, 56: refcount table


def test_refcount_table_offset_is_aligned(image: Image) -> None:
    both_refuse(image.set(refcount_table_offset=CLUSTER + 512), "the refcount table is at 0x10200, which is no multi")


def test_refcount_table_clusters_is_at_least_1(image: Image) -> None:
    both_refuse(image.set(refcount_table_clusters=0), "refcount_table_clusters is 0: the image has no refcount table")


def test_refcount_table_is_at_most_8_mib(image: Image) -> None:
    both_refuse(image.set(refcount_table_clusters=129), "the refcount table is 8454144 bytes long, at most 8388608")


# 60, 64: snapshots


def test_nb_snapshots_is_at_most_65536(image: Image) -> None:
    both_refuse(image.set(nb_snapshots=65537, snapshots_offset=CLUSTER), "the snapshot table is 2621480 bytes long")


def test_snapshots_offset_is_aligned(image: Image) -> None:
    both_refuse(image.set(nb_snapshots=1, snapshots_offset=CLUSTER + 8), "the snapshot table is at 0x10008, which is n")


def test_snapshot_table_is_at_most_64_mib(tmp_path: Path) -> None:
    """Each entry takes 132,136 bytes: with 508 of them the table is longer than 64 MiB. It lies in a hole."""
    image = make(tmp_path / "image.qcow2", MIB)
    entry_size = 40 + 1024 + 0xFFFF + 0xFFFF
    padded = -(-entry_size // 8) * 8
    count = (64 << 20) // padded + 1
    offset = image.append(b"")
    image.set(nb_snapshots=count, snapshots_offset=offset)
    for index in range(count):
        head = SNAPSHOT.pack(CLUSTER, 1, 0xFFFF, 0xFFFF, 0, 0, 0, 0, 1024)
        image.write(offset + index * padded, head)
    image.write(offset + count * padded, b"\0")
    both_refuse(image, "the snapshot table is longer than 67108864 bytes")


# 72: incompatible_features


def test_incompatible_bit_0_dirty_is_served_and_check_warns(image: Image) -> None:
    image.set(incompatible_features=1)
    assert contents(image) == WRITTEN == qemu_contents(image)
    policy, name = Policy.for_image(str(image.path))
    with policy:
        (problem,) = audit(policy, name)
    assert (problem.severity, problem.kind) == (Severity.WARNING, "dirty")


def test_incompatible_bit_2_needs_a_data_file(image: Image) -> None:
    both_refuse(image.set(incompatible_features=1 << 2), "external data file, but does not name one")


@pytest.mark.parametrize("bit", [5, 33, 63])
def test_incompatible_bit_unknown_is_refused_with_its_name(image: Image, bit: int) -> None:
    image.set(incompatible_features=1 << bit)
    both_refuse(image, f"unknown incompatible feature: bit {bit};", kind=UnsupportedError, code=95)
    image.extensions((FEATURE_NAMES, FEATURE_NAME.pack(0, bit, b"time travel")))
    both_refuse(image, "unknown incompatible feature: time travel;", kind=UnsupportedError, code=95)


# 80, 88: compatible_features, autoclear_features


@pytest.mark.parametrize("value", [1, 2, 1 << 63, (1 << 64) - 1])
def test_compatible_bits_are_ignored(image: Image, value: int) -> None:
    assert contents(image.set(compatible_features=value)) == WRITTEN == qemu_contents(image)


@pytest.mark.parametrize("value", [4, 1 << 63])
def test_autoclear_bits_are_ignored_by_a_reader(image: Image, value: int) -> None:
    assert contents(image.set(autoclear_features=value)) == WRITTEN == qemu_contents(image)


# 96: refcount_order


@pytest.mark.parametrize("order", range(7))
def test_refcount_order_0_to_6_is_read(tmp_path: Path, order: int) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", refcount_bits=1 << order)
    assert image.get("refcount_order") == order
    assert both_read(image) == WRITTEN


@pytest.mark.parametrize("order", [7, 31, 0xFFFFFFFF])
def test_refcount_order_above_6_is_refused(image: Image, order: int) -> None:
    both_refuse(image.set(refcount_order=order), f"refcount_order is {order}, expected 0 to 6")


def test_refcount_order_of_version_2_is_4_whatever_stands_there(old_image: Image) -> None:
    old_image.write(80, b"\xff" * 40)
    assert both_read(old_image) == WRITTEN


# 100: header_length


@pytest.mark.parametrize("length", [0, 72, 103, CLUSTER + 1, 0xFFFFFFFF])
def test_header_length_of_version_3_is_104_to_a_cluster(image: Image, length: int) -> None:
    both_refuse(image.set(header_length=length), f"header_length is {length}, expected 104 to 65536")


def test_header_length_may_be_odd(image: Image) -> None:
    """105, as QEMU accepts it; the extensions then start there."""
    image.set(header_length=105).write(105, bytes(16))
    assert both_read(image) == WRITTEN


def test_header_length_may_be_a_whole_cluster(image: Image) -> None:
    assert both_read(image.set(header_length=CLUSTER)) == WRITTEN


def test_header_length_of_version_2_is_72(old_image: Image) -> None:
    """Extensions follow at once: an end mark there, and bytes at 100 mean nothing."""
    old_image.write(72, bytes(8)).write(100, b"\xff\xff\xff\xff")
    assert both_read(old_image) == WRITTEN


# 104: compression_type


def test_compression_type_is_there_only_if_the_header_is_longer_than_104(image: Image) -> None:
    """With a length of 104 the byte is the first of the extensions."""
    image.set(header_length=104).write(104, extension(0x01000000, b"") + bytes(8))
    assert image.get("compression_type") == 1
    assert both_read(image) == WRITTEN


def test_compression_type_1_needs_bit_3(image: Image) -> None:
    both_refuse(image.set(compression_type=1), "compression_type is 1, which contradicts the incompatible feature bit")


def test_compression_type_0_excludes_bit_3(image: Image) -> None:
    both_refuse(image.set(incompatible_features=1 << 3), "compression_type is 0, which contradicts the incompatible")


def test_compression_type_2_is_refused_by_its_number(image: Image) -> None:
    image.set(compression_type=2, incompatible_features=1 << 3)
    both_refuse(image, r"compression_type is 2, only 0 \(deflate\) and 1 \(zstd\)", kind=UnsupportedError, code=95)


def test_compression_type_1_with_bit_3_is_zstd(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -c -P 1 0 64k", compression_type="zstd")
    assert (image.get("compression_type"), image.get("incompatible_features")) == (1, 1 << 3)
    assert both_read(image) == WRITTEN


# offset + length of every table <= INT64_MAX


@pytest.mark.parametrize("offset", ["l1_table_offset", "refcount_table_offset", "snapshots_offset"])
@pytest.mark.parametrize("value", [INT64_MAX & ~(CLUSTER - 1), ((1 << 64) - 1) & ~(CLUSTER - 1)])
def test_offset_and_length_of_a_table_stay_within_63_bits(image: Image, offset: str, value: int) -> None:
    """The sum is made in Python's integers: it neither wraps nor becomes negative."""
    if offset == "snapshots_offset":
        image.set(nb_snapshots=65536)
    both_refuse(image.set(**{offset: value}, l1_size=CLUSTER // 8), "table is at 0x.*, beyond what a file can hold")


def test_an_l1_table_beyond_the_end_of_the_file_is_refused(image: Image) -> None:
    image.set(l1_table_offset=1 << 50)
    with format_error("the L1 table at 0x4000000000000 lies beyond the end of the file"):
        vdifs.open(image.path)
