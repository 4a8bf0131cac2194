"""docs/qcow2.md, 'Snapshots'."""

import os
import shutil
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.agreement import both_refuse, contents, format_error, qemu_contents, refused
from tests.support.builder import CLUSTER, make, pattern
from tests.support.image_file import Image
from tests.support.qcow2 import COPIED, SNAPSHOT, padded, words
from tests.support.units import MIB


def snapshot(image: Image, name: str) -> Image:
    oracle.qemu_img("snapshot", "-c", name, image.path)
    return image


def by_qemu(image: Image, name: str) -> bytes:
    """Return what QEMU reads once it went back to an internal snapshot, in a copy of the file."""
    copy = Image(image.path.with_name("copy.qcow2"))
    shutil.copy(image.path, copy.path)
    oracle.qemu_img("snapshot", "-a", name, copy.path)
    found = qemu_contents(copy)
    assert found is not None
    return found


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """1 in the snapshot `first`, 2 in `second`, 3 in the active state."""
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 128k")
    snapshot(image, "first").io("write -P 2 64k 128k")
    return snapshot(image, "second").io("write -P 3 0 64k")


def entries(image: Image) -> list[tuple[int, tuple[int, ...], bytes, bytes]]:
    """Return (offset, fixed fields, extra data, id and name) of each entry of the snapshot table."""
    file = image.path.read_bytes()
    at, found = image.get("snapshots_offset"), []
    for _ in range(image.get("nb_snapshots")):
        fixed = SNAPSHOT.unpack_from(file, at)
        extra_end = at + SNAPSHOT.size + fixed[8]
        end = extra_end + fixed[2] + fixed[3]
        found.append((at, fixed, file[at + SNAPSHOT.size : extra_end], file[extra_end:end]))
        at = -(-end // 8) * 8
    return found


def write_entries(image: Image, *packed: bytes) -> Image:
    """Put a new snapshot table of these entries at the end of the file."""
    table = b"".join(map(padded, packed))
    return image.set(snapshots_offset=image.append(table), nb_snapshots=len(packed))


def packed_entry(image: Image, index: int = 0, **changes: object) -> bytes:
    """Return an entry of the table with other values."""
    _, fixed, extra, names = entries(image)[index]
    l1_offset = changes.get("l1_offset", fixed[0])
    l1_size = changes.get("l1_size", fixed[1])
    extra_data = changes.get("extra", extra)
    assert isinstance(extra_data, bytes)
    ident, name = names[: fixed[2]], names[fixed[2] :]
    ident, name = changes.get("id", ident), changes.get("name", name)  # type: ignore[assignment] # bytes all
    head = SNAPSHOT.pack(l1_offset, l1_size, len(ident), len(name), *fixed[4:8], len(extra_data))
    return head + extra_data + ident + name


def extra(disk_size: int, length: int = 16) -> bytes:
    return words(0, disk_size).ljust(length, b"\0")[:length]


@pytest.mark.parametrize("name", ["first", "second"])
def test_snapshot_is_read_through_its_own_l1_table(image: Image, name: str) -> None:
    found = contents(image, snapshot=name)
    assert found == by_qemu(image, name)
    assert found[:CLUSTER] == pattern(1)
    assert contents(image)[:CLUSTER] == pattern(3)


def test_snapshot_entries_are_padded_to_8(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k")
    for length in range(1, 10):
        snapshot(image.io(f"write -P {length} 0 64k"), "x" * length)
    for length in range(1, 10):
        assert contents(image, snapshot="x" * length)[:CLUSTER] == pattern(length)


def test_snapshot_extra_data_are_at_most_1024_bytes(image: Image) -> None:
    write_entries(image, packed_entry(image, extra=extra(MIB, 1024)))
    assert contents(image, snapshot="first") == by_qemu(image, "first")
    write_entries(image, packed_entry(image, extra=extra(MIB, 1025)))
    both_refuse(image, r"snapshot 0 at 0x.* has 1025 bytes of extra data, at most 1024")


def test_snapshot_disk_size_may_differ_from_the_active_one(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 1M")
    snapshot(image, "small").io("truncate 3M", "write -P 2 1M 2M")
    snapshot(image, "large")
    oracle.qemu_img("snapshot", "-a", "small", image.path)
    assert contents(image) == qemu_contents(image) == pattern(1, MIB)
    assert contents(image, snapshot="small") == by_qemu(image, "small") == pattern(1, MIB)
    assert contents(image, snapshot="large") == by_qemu(image, "large") == pattern(1, MIB) + pattern(2, 2 * MIB)


@pytest.mark.parametrize("bits", [9, 12])
def test_snapshot_l1_size_may_differ_from_the_active_one(tmp_path: Path, bits: int) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 1M", cluster_size=1 << bits)
    snapshot(image, "small").io("truncate 5M", "write -P 2 4M 1M")
    snapshot(image, "large")
    sizes = [fixed[1] for _, fixed, _, _ in entries(image)]
    assert sizes[0] < sizes[1] <= image.get("l1_size")
    assert contents(image, snapshot="small") == pattern(1, MIB)
    assert contents(image, snapshot="large") == pattern(1, MIB) + bytes(3 * MIB) + pattern(2, MIB)


def test_snapshot_l1_table_shorter_than_its_disk_leaves_the_rest_unallocated(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", 4 << 20, "write -P 1 0 4M", cluster_size=4096)
    snapshot(image, "s")
    write_entries(image, packed_entry(image, l1_size=1))
    assert contents(image, snapshot="s") == by_qemu(image, "s") == pattern(1, 2 * MIB) + bytes(2 * MIB)


def test_snapshot_disk_size_is_rounded_down_to_a_sector(image: Image) -> None:
    write_entries(image, packed_entry(image, extra=extra(1000)))
    assert contents(image, snapshot="first") == pattern(1, 512)


@pytest.mark.parametrize("length", [0, 8, 15])
def test_snapshot_without_a_disk_size_has_that_of_the_image(tmp_path: Path, length: int) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", compat="0.10")
    snapshot(image, "s")
    write_entries(image, packed_entry(image, extra=extra(12345, length)))
    assert contents(image, snapshot="s") == by_qemu(image, "s") == pattern(1) + bytes(MIB - CLUSTER)


def test_snapshot_l1_table_is_aligned(image: Image) -> None:
    write_entries(image, packed_entry(image, l1_offset=entries(image)[0][1][0] + 8))
    with format_error(r"the L1 table is at 0x.*8, no multiple of the cluster size"):
        contents(image, snapshot="first")
    assert contents(image) == qemu_contents(image)
    with pytest.raises(oracle.OracleError):
        by_qemu(image, "first")


def test_snapshot_l1_table_is_at_most_32_mib(image: Image) -> None:
    write_entries(image, packed_entry(image, l1_size=1 << 31, extra=extra(1 << 62)))
    with format_error("the L1 table would be longer than 33554432 bytes"):
        contents(image, snapshot="first")
    with pytest.raises(oracle.OracleError):
        by_qemu(image, "first")


def test_snapshot_l1_table_beyond_the_end_of_the_file_is_refused(image: Image) -> None:
    write_entries(image, packed_entry(image, l1_offset=1 << 40))
    with format_error("the L1 table at 0x10000000000 lies beyond the end of the file"):
        contents(image, snapshot="first")


def test_snapshot_with_damaged_tables_leaves_the_active_state_alone(image: Image) -> None:
    offset = entries(image)[0][1][0]
    image.write(offset, words(0x12345600 | COPIED))
    with format_error("L1 entry 0 points to 0x12345600"):
        contents(image, snapshot="first")
    assert contents(image) == qemu_contents(image)


def test_snapshot_names_may_be_there_twice(image: Image) -> None:
    """Both are to be had, by name and ID; the name alone says which there are."""
    write_entries(image, packed_entry(image, 0, name=b"same"), packed_entry(image, 1, name=b"same"))
    assert contents(image, snapshot="same~1")[CLUSTER : 2 * CLUSTER] == pattern(1)
    assert contents(image, snapshot="same~2")[CLUSTER : 2 * CLUSTER] == pattern(2)


def test_snapshot_is_found_by_its_id(image: Image) -> None:
    assert contents(image, snapshot="2") == contents(image, snapshot="second")


def test_snapshot_that_is_not_there_is_refused_with_those_that_are(image: Image) -> None:
    with refused(vdifs.ChainError, 2, r"it has no snapshot 'third': choose one of its snapshots \(first, second\)"):
        contents(image, snapshot="third")


def test_snapshot_names_are_escaped_in_labels(image: Image) -> None:
    write_entries(image, packed_entry(image, 0, name=b"a/b%\n"))
    assert contents(image, snapshot="a%2Fb%25%0A") == contents(image, snapshot="a/b%\n")


def test_snapshot_of_an_overlay_lies_on_the_same_backing_file(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", MIB, "write -P 0xbb 0 1M")
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", backing=("base.qcow2", "qcow2"))
    snapshot(image, "s").io("write -P 2 0 128k")
    wanted = pattern(1) + pattern(0xBB, MIB - CLUSTER)
    assert contents(image, snapshot="s") == by_qemu(image, "s") == wanted
    full = tmp_path / "full.qcow2"
    with vdifs.open(image.path, snapshot="s") as opened:
        full.write_bytes(b"".join(opened.stream()))
    oracle.check(full)
    assert qemu_contents(Image(full)) == wanted


def test_snapshot_and_active_state_have_different_etags(image: Image) -> None:
    tags = set()
    for name in (None, "first", "second"):
        with vdifs.open(image.path, snapshot=name) as opened:
            tags.add(opened.etag)
    assert len(tags) == 3


def test_snapshot_vm_state_beyond_the_disk_is_no_part_of_it(tmp_path: Path) -> None:
    """qemu-io -b writes where QEMU keeps the state of a virtual machine: behind the disk, in the same L1 table."""
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k", "write -b -P 9 0 64k")
    snapshot(image, "s")
    assert entries(image)[0][1][1] > 1
    wanted = pattern(1) + bytes(MIB - CLUSTER)
    assert contents(image, snapshot="s") == contents(image) == qemu_contents(image) == wanted


def test_snapshot_table_that_ends_with_the_file_is_zero_padded(image: Image) -> None:
    entry = packed_entry(image)
    write_entries(image, entry)
    os.truncate(image.path, image.get("snapshots_offset") + len(entry))
    assert contents(image, snapshot="first")[:CLUSTER] == pattern(1)


def test_a_raw_image_has_no_snapshots(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(512))
    with refused(vdifs.ChainError, 2, "disk.raw: a raw image has no snapshots"):
        vdifs.open(tmp_path / "disk.raw", snapshot="one")
