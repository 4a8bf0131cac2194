"""docs/qcow2.md, 'Header extensions'."""

import struct
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.agreement import both_read, both_refuse, contents, format_error, qemu_contents
from tests.support.builder import CLUSTER, make, pattern
from tests.support.image_file import Image
from tests.support.qcow2 import (
    BACKING_FORMAT,
    BITMAPS,
    DATA_FILE_NAME,
    FEATURE_NAME,
    FEATURE_NAMES,
    HIDDEN,
    LUKS_HEADER,
)
from tests.support.units import MIB

WRITTEN = pattern(1) + bytes(MIB - CLUSTER)
UNKNOWN = 0x12345678


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k")


@pytest.fixture
def overlay(tmp_path: Path, image: Image) -> Image:
    """An overlay that holds nothing; its extensions end where the name of its backing file begins."""
    return make(tmp_path / "overlay.qcow2", MIB, backing=("image.qcow2", "qcow2"))


def area(image: Image) -> int:
    """Return the bytes between the header and the backing file name."""
    return image.get("backing_file_offset") - image.get("header_length")


def head(kind: int, length: int) -> bytes:
    return struct.pack(">II", kind, length)


def test_extensions_begin_where_the_header_ends(image: Image) -> None:
    image.set(header_length=200).write(200, head(BACKING_FORMAT, 16) + bytes(24))
    both_refuse(image, "the backing format is 16 bytes long, at most 15 are allowed")


def test_extensions_of_version_2_begin_at_72(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", compat="0.10")
    both_refuse(image.write(72, head(BACKING_FORMAT, 16) + bytes(24)), "the backing format is 16 bytes long")


def test_extensions_end_at_the_backing_file_name(overlay: Image) -> None:
    room = area(overlay)
    overlay.write(overlay.get("header_length"), head(UNKNOWN, room - 8))
    assert both_read(overlay) == WRITTEN
    overlay.write(overlay.get("header_length"), head(UNKNOWN, room - 7))
    both_refuse(overlay, f"is {room - 7} bytes long, but the area for extensions ends after {room - 8}")


def test_extensions_end_with_the_first_cluster_where_there_is_no_name(image: Image) -> None:
    room = CLUSTER - image.get("header_length")
    image.write(image.get("header_length"), head(UNKNOWN, room - 8))
    assert both_read(image) == WRITTEN
    image.write(image.get("header_length"), head(UNKNOWN, room - 7))
    both_refuse(image, f"is {room - 7} bytes long, but the area for extensions ends after {room - 8}")


def test_an_extension_longer_than_its_area_is_refused(image: Image) -> None:
    both_refuse(image.write(image.get("header_length"), head(UNKNOWN, 0xFFFFFFFF)), "0x12345678 at 0x70 is 4294967295")


def test_extensions_are_padded_to_8(overlay: Image, tmp_path: Path) -> None:
    """The format stands behind an extension of 3 bytes and 5 of padding, which need not be zeros."""
    packed = head(UNKNOWN, 3) + b"abcdefgh" + head(BACKING_FORMAT, 3) + b"raw\0\0\0\0\0" + head(0, 0)
    overlay.write(overlay.get("header_length"), packed)
    raw = (tmp_path / "image.qcow2").read_bytes()
    assert both_read(overlay) == raw[:MIB].ljust(MIB, b"\0")


def test_type_0_ends_the_extensions(overlay: Image) -> None:
    end = overlay.extensions((BACKING_FORMAT, b"qcow2")).get("header_length") + 16
    assert both_read(overlay.write(end, head(0, 0) + head(BACKING_FORMAT, 0xFFFFFFFF))) == WRITTEN
    assert both_read(overlay.write(end, head(0, 8) + head(BACKING_FORMAT, 0xFFFFFFFF))) == WRITTEN


def test_the_end_mark_is_no_longer_than_its_area_either(overlay: Image) -> None:
    overlay.write(overlay.get("header_length"), head(0, area(overlay) - 7))
    both_refuse(overlay, "header extension 0x00000000 at 0x70 is")


@pytest.mark.parametrize("left", range(1, 8))
def test_an_area_ends_between_extensions_and_not_within_the_first_bytes_of_one(overlay: Image, left: int) -> None:
    overlay.set(header_length=overlay.get("backing_file_offset") - left)
    both_refuse(overlay, f"after {left} bytes of an extension, which has at least 8")


@pytest.mark.parametrize("length", [16, 100])
def test_backing_format_is_shorter_than_16_bytes(image: Image, length: int) -> None:
    both_refuse(image.extensions((BACKING_FORMAT, b"q" * length)), f"the backing format is {length} bytes long")


def test_backing_format_is_read_by_its_name(overlay: Image) -> None:
    overlay.extensions((BACKING_FORMAT, b"qed"))
    with pytest.raises(
        vdifs.UnsupportedError, match="states the format 'qed': only qcow2, vpc, vhdx, vmdk, vdi and raw"
    ):
        vdifs.open(overlay.path)


def test_backing_format_given_twice_is_the_last(overlay: Image, tmp_path: Path) -> None:
    overlay.extensions((BACKING_FORMAT, b"qcow2"), (BACKING_FORMAT, b"raw"))
    assert both_read(overlay) == (tmp_path / "image.qcow2").read_bytes().ljust(MIB, b"\0")[:MIB]


def test_feature_names_are_entries_of_48_bytes(image: Image) -> None:
    table = b"".join(FEATURE_NAME.pack(0, bit, b"name %d" % bit) for bit in (40, 41))
    image.extensions((FEATURE_NAMES, table)).set(incompatible_features=1 << 41 | 1 << 42)
    both_refuse(image, "unknown incompatible feature: name 41, bit 42;", kind=vdifs.UnsupportedError, code=95)


@pytest.mark.parametrize("length", [0, 1, 47, 49])
def test_feature_names_with_a_broken_tail_are_read(image: Image, length: int) -> None:
    assert both_read(image.extensions((FEATURE_NAMES, b"x" * length))) == WRITTEN


def test_bitmaps_are_left_alone(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, "write -P 1 0 64k")
    oracle.qemu_img("bitmap", "--add", "--enable", image.path, "changes")
    image.io("write -P 1 0 64k")
    assert image.get("autoclear_features") & 1
    assert both_read(image) == WRITTEN


def test_bitmaps_are_not_looked_into_though_qemu_does(image: Image) -> None:
    """They say nothing about the bytes of the disk; `vdifs check` looks at them."""
    assert contents(image.extensions((BITMAPS, bytes(23)))) == WRITTEN
    assert qemu_contents(image) is None


@pytest.mark.parametrize("length", [0, 15, 16])
def test_a_luks_header_belongs_to_an_encrypted_image(image: Image, length: int) -> None:
    both_refuse(
        image.extensions((LUKS_HEADER, bytes(length))), "the image has a LUKS header, but its crypt_method says"
    )


def test_bitmaps_of_24_bytes_are_read_by_both_whatever_they_say(image: Image) -> None:
    assert both_read(image.extensions((BITMAPS, b"x" * 24))) == WRITTEN


def test_a_data_file_name_without_the_feature_bit_means_nothing(image: Image) -> None:
    assert both_read(image.extensions((DATA_FILE_NAME, b"/etc/passwd"))) == WRITTEN


def test_the_hidden_flag_of_xcp_ng_is_read_and_serves(image: Image) -> None:
    image.extensions((HIDDEN, b"\1"))
    assert both_read(image) == WRITTEN


def test_others_are_ignored(image: Image) -> None:
    assert both_read(image.extensions((UNKNOWN, b"x" * 1000), (1, b""), (0xFFFFFFFF, b"y"))) == WRITTEN


def test_an_extension_may_lie_far_into_a_large_first_cluster(tmp_path: Path) -> None:
    image = make(tmp_path / "image.qcow2", MIB, cluster_size=2 * MIB)
    image.extensions((UNKNOWN, bytes(MIB)), (BACKING_FORMAT, b"x" * 16))
    both_refuse(image, "the backing format is 16 bytes long")


# What may stand in an area: extensions of lengths around a multiple of 8, end marks with and without a length, none.
CONTENTS = {
    "zeros": b"",
    "one without data": head(UNKNOWN, 0),
    "one byte": head(UNKNOWN, 1) + b"x",
    "three bytes and another": head(UNKNOWN, 3) + b"abcdefgh" + head(UNKNOWN, 0),
    "eight bytes": head(UNKNOWN, 8) + b"y" * 8,
    "nine bytes, no zeros behind": head(UNKNOWN, 9) + b"z" * 9 + b"\xff" * 7 + head(0, 0),
    "as long as can be said": head(UNKNOWN, 0xFFFFFFFF),
    "no end mark": head(UNKNOWN, 0) * 60,
    "an end mark with a length": head(0, 1),
    "an end mark as long as can be said": head(0, 0xFFFFFFFF),
    "0xff": b"\xff" * 300,
    "luks": head(LUKS_HEADER, 16),
    "a backing format": head(BACKING_FORMAT, 5) + b"qcow2",
    "a backing format too long": head(BACKING_FORMAT, 16) + b"q" * 16,
    "a data file": head(DATA_FILE_NAME, 4) + b"/etc",
}


def area_ends(start: int, *, every: bool) -> list[int]:
    """Return where an area that starts at `start` may end: its cluster's end as 0, before it, within and behind it."""
    near = range(1, 26) if every else (1, 4, 7, 8, 9, 12, 16, 17)
    far = (1, 72, 103, 504, 505, 511, 512, 513) if every else (1, 103, 511, 512, 513)
    return sorted({0, start - 1, start, *(start + room for room in near), *far})


def sweep(image: Image, starts: tuple[int, ...], *, every: bool) -> int:
    """Compare acceptance for starts x ends x contents of the area for extensions, and return how many there were."""
    tried = 0
    for start in starts:
        for end in area_ends(start, every=every):
            for number, (name, packed) in enumerate(CONTENTS.items()):
                if not every and number % 3 != (start + end) % 3:
                    continue  # each content meets many starts and ends all the same
                image.write(104, bytes(512 - 104)).write(start, packed[: 512 - start])
                image.set(header_length=start, backing_file_offset=end, backing_file_size=0)
                assert accepted(image) == qemu_accepts(image), (start, end, name)
                tried += 1
    return tried


def accepted(image: Image) -> bool:
    try:
        vdifs.open(image.path).close()
    except vdifs.FormatError:
        return False
    return True


def qemu_accepts(image: Image) -> bool:
    try:
        oracle.qemu_img("info", image.path)
    except oracle.OracleError:
        return False
    return True


def test_areas_of_any_place_length_and_contents_are_taken_or_refused_as_by_qemu(tmp_path: Path) -> None:
    image = make(tmp_path / "small.qcow2", 512, cluster_size=512)
    assert sweep(image, (104, 112, 505, 511), every=False) > 200


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_more_areas_are_taken_or_refused_as_by_qemu(tmp_path: Path) -> None:
    image = make(tmp_path / "small.qcow2", 512, cluster_size=512)
    starts = (104, 105, 108, 111, 112, 113, 120, 256, 496, 503, 504, 505, 508, 511, 512)
    assert sweep(image, starts, every=True) > 6000


def test_a_file_that_ends_within_the_extensions_is_refused(image: Image) -> None:
    image.write(image.get("header_length"), head(UNKNOWN, 1000))
    with image.path.open("r+b") as file:
        file.truncate(200)
    with format_error("the L1 table at 0x30000 lies beyond the end of the file"):
        vdifs.open(image.path)
