"""The header: parse and pack are inverse, and no bytes whatever get anything but a header or a FormatError."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import qcow2
from tests.support.headers import damaged_heads, headers
from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.qcow2.extensions import Extension, ExtensionType
from vdifs.formats.qcow2.header import MAGIC, Header, Incompatible

MINIMAL = Header(
    version=3,
    backing_file_offset=0,
    backing_file_size=0,
    cluster_bits=16,
    size=1 << 20,
    crypt_method=0,
    l1_size=1,
    l1_table_offset=0x30000,
    refcount_table_offset=0x10000,
    refcount_table_clusters=1,
    nb_snapshots=0,
    snapshots_offset=0,
)


def head_of(header: Header) -> bytes:
    """Return the first cluster of a file that starts with `header`."""
    return header.pack().ljust(header.cluster_size, b"\0")


@given(headers())
def test_parsing_is_the_inverse_of_packing(header: Header) -> None:
    assert Header.parse(head_of(header)) == header


@given(headers())
def test_packing_is_the_inverse_of_parsing(header: Header) -> None:
    packed = header.pack()
    assert Header.parse(packed.ljust(header.cluster_size, b"\0")).pack() == packed


@given(headers())
def test_a_header_lies_within_the_first_cluster(header: Header) -> None:
    parsed = Header.parse(head_of(header))
    assert parsed.backing_file_offset + (parsed.backing_file_size if parsed.backing_file else 0) <= parsed.cluster_size


@given(headers(), st.binary(max_size=64))
def test_bytes_behind_the_first_cluster_mean_nothing(header: Header, rest: bytes) -> None:
    assert Header.parse(head_of(header) + rest) == header


@given(st.binary(max_size=600))
def test_any_bytes_give_a_header_or_a_format_error(head: bytes) -> None:
    parse_or_refuse(head)


@given(st.binary(max_size=600))
def test_any_bytes_behind_the_magic_give_a_header_or_a_format_error(rest: bytes) -> None:
    parse_or_refuse(MAGIC + rest)


@given(damaged_heads())
def test_a_damaged_header_gives_a_header_or_a_format_error(head: bytes) -> None:
    parse_or_refuse(head)


def parse_or_refuse(head: bytes) -> None:
    try:
        header = Header.parse(head)
    except FormatError as error:
        message = str(error)
        assert message.isprintable()
        assert message
    else:
        assert header.version in (2, 3)
        assert 9 <= header.cluster_bits <= 21
        assert header.l1_size * 8 <= 32 << 20
        assert header.geometry.l1_size <= header.l1_size


def test_the_fields_lie_where_the_specification_says() -> None:
    header = replace(
        MINIMAL,
        nb_snapshots=7,
        snapshots_offset=0x50000,
        incompatible_features=Incompatible.DIRTY | Incompatible.COMPRESSION_TYPE,
        compatible_features=1,
        autoclear_features=2,
        refcount_order=5,
        header_length=112,
        compression_type=1,
        extensions=(Extension(ExtensionType.BACKING_FORMAT, b"qcow2"),),
        backing_file_offset=136,
        backing_file_size=10,
        backing_file="base.qcow2",
    )
    packed = header.pack()
    assert packed[:8] == b"QFI\xfb\0\0\0\3"
    assert struct.unpack_from(">QIIQIIQQIIQ", packed, 8) == (
        136, 10, 16, 1 << 20, 0, 1, 0x30000, 0x10000, 1, 7, 0x50000,
    )  # fmt: skip
    assert struct.unpack_from(">QQQIIB", packed, 72) == (9, 1, 2, 5, 112, 1)
    assert packed[112:136] == bytes.fromhex("e2792aca 00000005") + b"qcow2\0\0\0" + bytes(8)
    assert packed[136:] == b"base.qcow2"


def test_version_2_packs_to_72_bytes_and_the_end_mark() -> None:
    packed = replace(MINIMAL, version=2, header_length=72).pack()
    assert len(packed) == 72 + 8
    assert packed[72:] == bytes(8)


def test_what_follows_from_the_fields() -> None:
    header = replace(MINIMAL, size=1000, refcount_order=6, incompatible_features=Incompatible.EXTENDED_L2)
    assert header.virtual_size == 512
    assert header.cluster_size == 65536
    assert header.refcount_bits == 64
    assert header.extended_l2
    assert header.geometry.l1_size == 1


def test_the_last_backing_format_counts_as_in_qemu() -> None:
    first, last = (Extension(ExtensionType.BACKING_FORMAT, name) for name in (b"raw", b"qcow2"))
    assert Header.parse(head_of(replace(MINIMAL, extensions=(first, last)))).backing_format == "qcow2"


def test_the_names_of_unknown_features_are_printed_without_control_characters() -> None:
    names = Extension(ExtensionType.FEATURE_NAMES, qcow2.FEATURE_NAME.pack(0, 40, b"evil\x1b[2J\nname"))
    header = replace(MINIMAL, incompatible_features=1 << 40, extensions=(names,))
    with pytest.raises(UnsupportedError) as caught:
        Header.parse(head_of(header))
    assert "evil" in str(caught.value)
    assert str(caught.value).isprintable()
