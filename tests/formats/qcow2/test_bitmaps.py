"""The bitmap directory: entries as the specification packs them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.qcow2.test_header import MINIMAL
from tests.support import qcow2
from vdifs.errors import FormatError
from vdifs.formats.qcow2.bitmap_tables import check_bitmap_table
from vdifs.formats.qcow2.bitmaps import Bitmap, BitmapFlag, parse_bitmaps
from vdifs.formats.qcow2.extensions import Extension, ExtensionType, encode_name
from vdifs.formats.qcow2.header import Autoclear, Header

OFFSET = 0x70000
CLUSTER = MINIMAL.cluster_size

bitmaps = st.builds(
    Bitmap,
    st.integers(0, (1 << 47) - 2).map(lambda cluster: cluster * CLUSTER),
    st.integers(0, 8192),
    st.sets(st.sampled_from(BitmapFlag)).map(lambda flags: BitmapFlag(sum(flags))),
    st.integers(9, 31),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)


def packed(bitmap: Bitmap, extra: bytes = b"", kind: int = 1) -> bytes:
    name = encode_name(bitmap.name)
    head = qcow2.BITMAP.pack(
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


def header_of(count: int, size: int, *, valid: bool = True, offset: int = OFFSET) -> Header:
    data = qcow2.BITMAPS_PLACE.pack(count, 0, size, offset)
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
        assert str(error).startswith(("the bitmap directory ends", "bitmap ", "the table of bitmap "))


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


@pytest.mark.parametrize(
    ("offset", "match"),
    [
        (OFFSET + 8, "is at 0x70008, which is no multiple of the cluster size 0x10000"),
        (1 << 63, "is at 0x8000000000000000, beyond what a file can hold"),
        ((1 << 63) - CLUSTER, "is at 0x7fffffffffff0000, beyond what a file can hold"),
    ],
)
def test_directory_and_tables_start_with_a_cluster_and_end_within_63_bits(offset: int, match: str) -> None:
    def read(_offset: int, _length: int) -> bytes:
        raise AssertionError("read")

    with pytest.raises(FormatError, match=f"the bitmap directory {match}"):
        parse_bitmaps(header_of(1, CLUSTER, offset=offset), read)
    with pytest.raises(FormatError, match=f"the table of bitmap 0 {match}"):
        parsed(packed(Bitmap(offset, 8192, BitmapFlag(0), 16, "name")), 1)


def test_a_table_that_leads_to_more_than_512_mib_is_refused() -> None:
    with pytest.raises(FormatError, match="the table of bitmap 0 has 8193 entries: too many"):
        parsed(packed(Bitmap(0, 8193, BitmapFlag(0), 16, "name")), 1)


@pytest.mark.parametrize("entry", [0, 1, CLUSTER, (1 << 56) - CLUSTER])
def test_a_table_entry_is_zeros_ones_or_an_offset(entry: int) -> None:
    check_bitmap_table(qcow2.words(0, entry), CLUSTER)


@pytest.mark.parametrize("entry", [2, 256, 1 << 56, 1 << 63, CLUSTER | 1, CLUSTER | 2, CLUSTER + 512, 512])
def test_any_other_table_entry_is_refused(entry: int) -> None:
    with pytest.raises(FormatError, match=f"entry 1 is {entry:#x}, which is no offset, no zeros and no ones"):
        check_bitmap_table(qcow2.words(0, entry), CLUSTER)
