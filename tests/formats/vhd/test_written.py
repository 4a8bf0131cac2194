"""What is written of a VHD is what is read of it, and what other programs write; docs/formats.md, VHD, "Writing"."""

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import oracle, vhd
from vdifs.formats.vhd.footer import FOOTER_LENGTH, MAX_SIZE, DiskType, Footer, is_sound
from vdifs.formats.vhd.geometry import geometry_of
from vdifs.formats.vhd.header import HEADER_LENGTH, Header

U8, U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
FOUR = st.binary(min_size=4, max_size=4)


@given(
    st.builds(
        Footer,
        features=U32,
        version=st.integers(0x10000, 0x1FFFF),
        header_offset=U64,
        time_stamp=U32,
        creator=FOUR.filter(lambda creator: creator not in (b"vpc ", b"vs  ", b"qemu", b"tap\0")),
        creator_version=U32,
        creator_os=FOUR,
        original_size=U64,
        current_size=st.integers(512, MAX_SIZE),
        cylinders=U16,
        heads=U8,
        sectors=U8,
        disk_type=st.sampled_from(DiskType),
        checksum=U32,
        uuid=st.uuids(),
        saved_state=U8,
        hidden_flag=U8,
    )
)
def test_a_footer_is_read_as_it_was_written_and_signed(footer: Footer) -> None:
    packed = footer.pack()
    assert len(packed) == FOOTER_LENGTH
    assert is_sound(packed)
    found = Footer.parse(packed)
    assert {name: getattr(found, name) for name in Footer.__slots__ if name != "checksum"} == {
        name: getattr(footer, name) for name in Footer.__slots__ if name != "checksum"
    }
    assert found.pack() == packed
    for at in (0, 63, 84, 300, 511):
        damaged = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
        assert not is_sound(damaged)


def test_a_footer_and_a_header_are_those_of_another_writer() -> None:
    wanted = vhd.footer(
        current_size=5 << 20, original_size=5 << 20, uuid=UUID(int=77).bytes, cylinders=150, heads=4, sectors=17
    )
    assert Footer.parse(wanted).pack() == wanted
    assert Header.dynamic(1536, 3, 2 << 20).pack() == vhd.header([], bat_entries=3)


@given(st.integers(512, 1 << 40).map(lambda at: at // 512 * 512), st.integers(0, 1 << 20), st.integers(12, 28))
def test_a_header_is_read_as_it_was_written(offset: int, entries: int, bits: int) -> None:
    header = Header.dynamic(offset, entries, 1 << bits)
    packed = header.pack()
    assert len(packed) == HEADER_LENGTH
    found = Header.parse(packed, 1 << 41)
    assert (found.bat_offset, found.bat_entries, found.block_size) == (offset, entries, 1 << bits)
    assert (found.parent_uuid.int, found.parent_name, found.pack()) == (0, b"", packed)


@pytest.mark.parametrize(
    ("sectors", "geometry"),
    [
        (0, (0, 4, 17)),
        (1, (0, 4, 17)),
        (68, (1, 4, 17)),
        (4096 * 17 - 1, (1023, 4, 17)),
        (4096 * 17, (140, 16, 31)),
        (4097 * 17, (819, 5, 17)),
        (16 * 1024 * 17 - 1, (1023, 16, 17)),
        (16 * 1024 * 17, (561, 16, 31)),
        (16 * 1024 * 31 - 1, (1023, 16, 31)),
        (16 * 1024 * 31, (503, 16, 63)),
        (65535 * 16 * 63 - 1, (65534, 16, 63)),
        (65535 * 16 * 63, (16191, 16, 255)),
        (65535 * 16 * 255 - 1, (65534, 16, 255)),
        (65535 * 16 * 255, (65535, 16, 255)),
        (MAX_SIZE // 512, (65535, 16, 255)),
    ],
)
def test_the_geometry_of_a_disk(sectors: int, geometry: tuple[int, int, int]) -> None:
    assert tuple(geometry_of(sectors)) == geometry


@pytest.mark.parametrize("size", ["3M", "40M", "272M", "500M", "5G", "31G", "126G", "300G"])
def test_the_geometry_is_the_one_that_qemu_writes(size: str, tmp_path: Path) -> None:
    """It rounds a disk up to a whole cylinder, and states the geometry of that."""
    path = tmp_path / "disk.vhd"
    oracle.qemu_img("create", "-q", "-f", "vpc", "-o", "subformat=dynamic", path, size)
    footer = Footer.parse(path.read_bytes()[-FOOTER_LENGTH:])
    assert tuple(geometry_of(footer.current_size // 512)) == (footer.cylinders, footer.heads, footer.sectors)
