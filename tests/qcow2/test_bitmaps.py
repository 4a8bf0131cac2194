"""The bitmap directory: entries as the specification packs them."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qcow2.test_header import MINIMAL
from vdifs.errors import FormatError
from vdifs.qcow2.bitmaps import Bitmap, BitmapFlag, parse_bitmaps
from vdifs.qcow2.extensions import Extension, ExtensionType, encode_name
from vdifs.qcow2.header import Autoclear, Header

OFFSET = 0x70000

bitmaps = st.builds(
    Bitmap,
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
    st.sets(st.sampled_from(BitmapFlag)).map(lambda flags: BitmapFlag(sum(flags))),
    st.integers(9, 31),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)


def packed(bitmap: Bitmap, extra: bytes = b"", kind: int = 1) -> bytes:
    name = encode_name(bitmap.name)
    head = struct.pack(
        ">QIIBBHI",
        bitmap.table_offset,
        bitmap.table_size,
        bitmap.flags,
        kind,
        bitmap.granularity_bits,
        len(name),
        len(extra),
    )
    entry = head + extra + name
    return entry + bytes(-len(entry) % 8)


def header_of(count: int, size: int, *, valid: bool = True) -> Header:
    data = struct.pack(">IIQQ", count, 0, size, OFFSET)
    return replace(
        MINIMAL,
        autoclear_features=Autoclear.BITMAPS if valid else 0,
        extensions=(Extension(ExtensionType.BITMAPS, data),),
    )


def parsed(directory: bytes, count: int, *, valid: bool = True) -> tuple[Bitmap, ...]:
    def read(offset: int, length: int) -> bytes:
        assert offset == OFFSET
        return directory[:length].ljust(length, b"\0")

    return parse_bitmaps(header_of(count, len(directory), valid=valid), read)


@given(st.lists(bitmaps, max_size=5), st.binary(max_size=20))
def test_parsing_is_the_inverse_of_packing(found: list[Bitmap], extra: bytes) -> None:
    assert parsed(b"".join(packed(bitmap, extra) for bitmap in found), len(found)) == tuple(found)


@given(st.binary(max_size=200), st.integers(0, 6))
def test_any_bytes_give_bitmaps_or_a_format_error(directory: bytes, count: int) -> None:
    try:
        assert len(parsed(directory, count)) == count
    except FormatError as error:
        assert str(error).startswith(("the bitmap directory ends", "bitmap "))


@given(bitmaps)
def test_bitmaps_are_there_only_if_autoclear_bit_0_says_that_they_are_valid(bitmap: Bitmap) -> None:
    assert parsed(packed(bitmap), 1, valid=False) == ()
    assert parse_bitmaps(replace(MINIMAL, autoclear_features=1), lambda *_: b"") == ()


def test_what_a_bit_stands_for_follows_from_the_granularity() -> None:
    assert Bitmap(0, 0, BitmapFlag(0), 16, "b").granularity == 65536


@pytest.mark.parametrize(
    ("directory", "match"),
    [
        (b"", "the bitmap directory ends before entry 0"),
        (packed(Bitmap(0, 0, BitmapFlag(0), 16, "name"))[:26], "bitmap 0 is longer than its directory"),
        (packed(Bitmap(0, 0, BitmapFlag(0), 16, "name"), kind=2), "bitmap 0 has the type 2 and 16 granularity bits"),
        (packed(Bitmap(0, 0, BitmapFlag(0), 32, "name")), "bitmap 0 has the type 1 and 32 granularity bits"),
    ],
)
def test_a_directory_that_breaks_a_rule_is_refused(directory: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parsed(directory, 1)


@pytest.mark.parametrize(("count", "size"), [(65536, 24), (1, (64 << 20) + 1), (0xFFFF_FFFF, (1 << 64) - 1)])
def test_a_directory_of_absurd_size_is_refused_before_it_is_read(count: int, size: int) -> None:
    def read(_offset: int, _length: int) -> bytes:
        raise AssertionError("read")

    with pytest.raises(FormatError, match=r"the bitmap directory has .* entries in .* bytes: too many"):
        parse_bitmaps(header_of(count, size), read)


@pytest.mark.parametrize("length", [0, 23, 25])
def test_an_extension_of_another_length_than_24_is_refused(length: int) -> None:
    header = replace(MINIMAL, autoclear_features=1, extensions=(Extension(ExtensionType.BITMAPS, bytes(length)),))
    with pytest.raises(FormatError, match=f"the bitmaps extension is {length} bytes long, expected 24"):
        parse_bitmaps(header, lambda *_: b"")
