"""Header extensions: the list, its padding and its end."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import qcow2
from tests.support.headers import extensions
from vdifs.errors import FormatError
from vdifs.formats.qcow2.extensions import (
    Extension,
    ExtensionType,
    FeatureName,
    decode_name,
    encode_name,
    feature_names,
    has_end_mark,
    pack_extensions,
    parse_extensions,
)

lists = st.lists(extensions(), max_size=6).map(tuple)
EXTENSION = Extension(0x12345678, b"nine bytes")


@given(lists)
def test_parsing_is_the_inverse_of_packing(found: tuple[Extension, ...]) -> None:
    assert parse_extensions(pack_extensions(found), 104) == found


@given(lists, st.binary(max_size=40))
def test_what_lies_behind_the_end_mark_means_nothing(found: tuple[Extension, ...], rest: bytes) -> None:
    assert parse_extensions(pack_extensions(found) + rest, 104) == found


@given(lists)
def test_an_area_that_is_full_needs_no_end_mark(found: tuple[Extension, ...]) -> None:
    assert parse_extensions(pack_extensions(found)[:-8], 104) == found


@given(lists)
def test_each_extension_starts_at_a_multiple_of_eight(found: tuple[Extension, ...]) -> None:
    assert len(pack_extensions(found)) == 8 + sum(8 + -(-len(e.data) // 8) * 8 for e in found)


@given(st.binary(max_size=200))
def test_any_bytes_give_extensions_or_a_format_error(area: bytes) -> None:
    try:
        found = parse_extensions(area, 104)
    except FormatError:
        return
    assert sum(8 + len(e.data) for e in found) <= len(area)


@given(lists, st.integers(0, 300))
def test_the_end_mark_is_seen_in_the_beginning_of_an_area_only_if_it_is_there(
    found: tuple[Extension, ...], length: int
) -> None:
    area = pack_extensions(found)
    assert has_end_mark(area[:length]) == (length >= len(area))


def test_an_extension_longer_than_its_area_is_refused_with_its_place() -> None:
    area = struct.pack(">II", 0x12345678, 17) + bytes(16)
    with pytest.raises(FormatError, match=r"extension 0x12345678 at 0x68 is 17 bytes long.*ends after 16"):
        parse_extensions(area, 0x68)


def test_an_extension_may_end_with_the_area_without_its_padding() -> None:
    assert parse_extensions(pack_extensions((EXTENSION,))[: 8 + len(EXTENSION.data)], 104) == (EXTENSION,)


@pytest.mark.parametrize("left", range(1, 8))
def test_a_tail_too_short_for_an_extension_is_refused(left: int) -> None:
    area = pack_extensions((EXTENSION,))[:-8] + bytes(left)
    with pytest.raises(FormatError, match=f"ends at {104 + len(area) - left:#x} after {left} bytes of an extension"):
        parse_extensions(area, 104)


def test_zeros_follow_where_the_file_ends_within_the_area() -> None:
    packed = pack_extensions((EXTENSION,))
    for length in range(len(packed)):
        found = parse_extensions(packed[:length].rstrip(b"\0"), 104, len(packed))
        assert found == parse_extensions(packed[:length].ljust(len(packed), b"\0"), 104)
    assert parse_extensions(b"", 104, 0) == parse_extensions(b"", 104, 8) == ()


def test_an_end_mark_longer_than_its_area_is_refused() -> None:
    parse_extensions(struct.pack(">II", 0, 4) + bytes(4), 104)
    with pytest.raises(FormatError, match=r"extension 0x00000000 at 0x68 is 5 bytes long.*ends after 4"):
        parse_extensions(struct.pack(">II", 0, 5) + bytes(4), 104)


def test_the_feature_name_table_gives_kind_bit_and_name() -> None:
    table = qcow2.FEATURE_NAME.pack(0, 5, b"five") + qcow2.FEATURE_NAME.pack(2, 1, b"x" * 46)
    names = feature_names((Extension(ExtensionType.FEATURE_NAMES, table),))
    assert names == (FeatureName(0, 5, "five"), FeatureName(2, 1, "x" * 46))


@pytest.mark.parametrize("tail", [1, 47])
def test_a_broken_tail_of_the_feature_name_table_is_ignored(tail: int) -> None:
    table = qcow2.FEATURE_NAME.pack(1, 0, b"lazy refcounts") + b"x" * tail
    names = feature_names((Extension(ExtensionType.FEATURE_NAMES, table),))
    assert names == (FeatureName(1, 0, "lazy refcounts"),)


@given(st.binary(max_size=60))
def test_any_name_of_bytes_survives_up_to_its_nul(name: bytes) -> None:
    assert encode_name(decode_name(name)) == name.split(b"\0")[0]
    assert decode_name(name + b"\0" + name) == decode_name(name)
