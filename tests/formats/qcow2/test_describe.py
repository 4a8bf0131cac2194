"""What a qcow2 holds besides its disk, in words and as JSON. That QEMU says the same: tests/cli/test_info.py."""

import struct
from dataclasses import fields, replace

import pytest
from hypothesis import given

from tests.formats.qcow2.test_header import MINIMAL
from tests.support.headers import headers
from vdifs.formats.qcow2.bitmaps import Bitmap, BitmapFlag
from vdifs.formats.qcow2.describe import (
    bitmap_fields,
    header_fields,
    header_json,
    header_warnings,
    qemu_format_specific,
    snapshot_fields,
    snapshots_json,
)
from vdifs.formats.qcow2.extensions import Extension, ExtensionType
from vdifs.formats.qcow2.header import Compatible, Header, Incompatible
from vdifs.formats.qcow2.snapshots import Snapshot

SNAPSHOT = Snapshot(0x50000, 1, "1", "s", 1_700_000_000, 5, 3_000_000_007, (1 << 64) - 1)
BITMAP = Bitmap(0x50000, 1, BitmapFlag.IN_USE | BitmapFlag.AUTO, 16, "b\udcff")


def with_extensions(*extensions: Extension) -> Header:
    return replace(MINIMAL, extensions=extensions)


@given(header=headers())
def test_every_field_of_a_header_is_told_as_it_is(header: Header) -> None:
    told = header_json(header)
    names = {field.name for field in fields(header)} & set(told) - {"extensions"}
    assert {"version", "cluster_bits", "l1_table_offset", "nb_snapshots", "refcount_order"} < names
    assert {name: told[name] for name in names} == {name: getattr(header, name) for name in names}
    assert [each["type"] for each in told["extensions"]] == [each.type for each in header.extensions]


@given(header=headers())
def test_a_header_in_words_has_the_same_numbers_as_in_json(header: Header) -> None:
    words, told = header_fields(header, None), header_json(header)
    for word in ("incompatible", "compatible", "autoclear"):
        names = ", ".join(told[f"{word}_feature_names"]) or "none"
        assert words[f"{word} features"] == f"{told[f'{word}_features']:#x} ({names})"
    assert words["size in header"] == told["size"]
    assert words["sectors per cluster"] == told["sectors_per_cluster"]
    assert str(words["version"]).startswith(str(told["version"]))
    assert len([name for name in words if name.startswith("extension ")]) == len(told["extensions"])


def test_a_bit_is_named_by_the_specification_or_else_by_the_image_or_else_by_its_number() -> None:
    table = struct.pack(">BB46s", 1, 0, b"another name") + struct.pack(">BB46s", 1, 5, b"private")
    header = with_extensions(Extension(ExtensionType.FEATURE_NAMES, table))
    told = header_json(replace(header, compatible_features=1 | 1 << 5 | 1 << 63))
    assert told["compatible_feature_names"] == ["lazy refcounts", "private", "bit 63"]


def test_an_extension_of_no_known_type_is_told_with_its_length() -> None:
    (told,) = header_json(with_extensions(Extension(0x1234, b"abc")))["extensions"]
    assert told == {"type": 0x1234, "meaning": "unknown", "length": 3}
    assert (
        header_fields(with_extensions(Extension(0x1234, b"a")), None)["extension 1"] == "0x00001234 (unknown), 1 byte"
    )


@pytest.mark.parametrize(("name", "shown"), [("base", "base"), ("x/base", "base (actual path: x/base)")])
def test_a_backing_file_is_told_as_it_stands_and_as_seen_from_here(name: str, shown: str) -> None:
    header = replace(MINIMAL, backing_file="base", backing_file_offset=0x200, backing_file_size=4)
    words = header_fields(header, name)
    assert words["backing file"] == shown
    assert words["backing file format"] == "not stated"
    assert words["backing file name"] == "4 bytes at 0x200"


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, []),
        ({"incompatible_features": int(Incompatible.CORRUPT)}, ["marked corrupt"]),
        ({"incompatible_features": int(Incompatible.DIRTY)}, ["marked dirty"]),
        ({"backing_file": "base"}, ["no backing file format stated"]),
    ],
)
def test_what_a_user_should_know_is_a_warning(changes: dict[str, object], begins: list[str]) -> None:
    warnings = header_warnings(replace(MINIMAL, **changes))  # type: ignore[arg-type] # fields by their names
    assert [warning.partition(":")[0] for warning in warnings] == begins


def test_what_version_2_does_not_have_is_not_told() -> None:
    assert list(qemu_format_specific(replace(MINIMAL, version=2))) == ["compat", "compression-type", "refcount-bits"]
    lazy = replace(MINIMAL, version=3, compatible_features=int(Compatible.LAZY_REFCOUNTS))
    assert qemu_format_specific(lazy)["lazy-refcounts"] is True


def test_numbers_of_a_snapshot_are_signed_as_in_qemu_and_its_clock_is_in_two_parts() -> None:
    assert snapshots_json([SNAPSHOT]) == [
        {
            "name": "s",
            "id": "1",
            "vm-state-size": -1,
            "date-sec": 1_700_000_000,
            "date-nsec": 5,
            "vm-clock-sec": 3,
            "vm-clock-nsec": 7,
            "label": "s",
        }
    ]
    (told,) = snapshots_json([replace(SNAPSHOT, disk_size=1 << 20, icount=9)])
    assert (told["icount"], told["disk-size"]) == (9, 1 << 20)
    assert "icount" not in snapshots_json([replace(SNAPSHOT, icount=(1 << 64) - 1)])[0], "QEMU's word for none"


def test_snapshots_of_one_name_have_a_line_each() -> None:
    two = [replace(SNAPSHOT, vm_state_size=0), replace(SNAPSHOT, id="2", vm_state_size=0, disk_size=1 << 20)]
    lines = snapshot_fields(two)
    assert len(lines) == 2
    assert list(lines.values()) == [
        "ID 1, 2023-11-14 22:13:20 UTC, VM state 0 B",
        "ID 2, 2023-11-14 22:13:20 UTC, disk 1 MiB, VM state 0 B",
    ]


def test_bitmaps_are_told_with_their_flags() -> None:
    assert bitmap_fields([BITMAP]) == {"bitmap b\udcff": "granularity 64 KiB, in-use, auto, not copied"}
    assert bitmap_fields([replace(BITMAP, flags=BitmapFlag(0), name="c")]) == {
        "bitmap c": "granularity 64 KiB, no flags, not copied"
    }
    told = qemu_format_specific(MINIMAL, [BITMAP])["bitmaps"]
    assert told == [{"flags": ["in-use", "auto"], "name": "b\ufffd", "name_hex": "62ff", "granularity": 65536}]
    assert "bitmaps" not in qemu_format_specific(MINIMAL)
