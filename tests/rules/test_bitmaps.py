"""docs/qcow2.md, 'Bitmaps': read as QEMU tells them, valid only with autoclear bit 0, never in the data's way."""

import os
import struct
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.agreement import both_read, contents, format_error, qemu_contents
from tests.support.builder import CLUSTER, make, pattern
from tests.support.image_file import Image
from tests.support.qcow2 import words
from tests.support.units import MIB
from vdifs.chain.policy import Policy
from vdifs.cli.main import main
from vdifs.formats.image_format import Front
from vdifs.formats.qcow2.bitmaps import Bitmap, BitmapFlag
from vdifs.formats.qcow2.metadata import read_bitmaps, read_header
from vdifs.report.audit import Severity, audit
from vdifs.storage.host_file import HostFile

WRITTEN = pattern(1) + bytes(MIB - CLUSTER)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """With two bitmaps, one of them recording."""
    image = make(tmp_path / "image.qcow2", MIB)
    oracle.qemu_img("bitmap", "--add", "--enable", "-g", "64k", image.path, "recording")
    oracle.qemu_img("bitmap", "--add", "--disable", "-g", "128k", image.path, "größe")
    return image.io("write -P 1 0 64k")


def bitmaps_of(image: Image) -> tuple[Bitmap, ...]:
    with image.path.open("rb") as opened:
        file = HostFile(opened.fileno(), image.path.name)
        header = read_header(Front(file))
        return read_bitmaps(file, header)


def directory_pointer(image: Image) -> int:
    """Return where the header says where the bitmap directory is: the last word of its extension."""
    return image.path.read_bytes()[: image.cluster_size].index(b"\x23\x85\x28\x75") + 24


def directory(image: Image) -> int:
    """Return where the bitmap directory is."""
    return image.words(directory_pointer(image), 1)[0]


def audited(image: Image) -> list[tuple[Severity, str, str]]:
    """Return what `check` says of the image, without its name."""
    with Policy(os.fspath(image.path.parent)) as policy:
        found = audit(policy, image.path.name)
    return [(each.severity, each.kind, each.message.removeprefix(f"{image.path}: ")) for each in found]


def qemu_warns_or_refuses(image: Image) -> bool:
    try:
        oracle.qemu_img("check", "-f", "qcow2", image.path)
    except oracle.OracleError:
        return True
    return False


def test_directory_entries_say_name_granularity_and_flags(image: Image) -> None:
    found = {bitmap.name: (bitmap.granularity, bitmap.flags) for bitmap in bitmaps_of(image)}
    assert found == {"recording": (CLUSTER, BitmapFlag.AUTO), "größe": (2 * CLUSTER, BitmapFlag(0))}
    by_qemu = oracle.info(image.path)["format-specific"]["data"]["bitmaps"]
    assert {each["name"]: each["granularity"] for each in by_qemu} == {
        name: granularity for name, (granularity, _) in found.items()
    }
    assert both_read(image) == WRITTEN


def test_directory_flag_0_says_in_use(image: Image) -> None:
    flags = directory(image) + 12
    image.write(flags + 3, bytes([image.path.read_bytes()[flags + 3] | 1]))
    assert BitmapFlag.IN_USE in bitmaps_of(image)[0].flags
    assert contents(image) == qemu_contents(image) == WRITTEN


def test_bitmaps_without_autoclear_bit_0_are_not_valid(image: Image) -> None:
    image.set(autoclear_features=0)
    assert bitmaps_of(image) == ()
    assert "bitmaps" not in oracle.info(image.path)["format-specific"]["data"]
    assert both_read(image) == WRITTEN


def test_a_damaged_directory_does_not_keep_the_data_from_being_read(image: Image) -> None:
    """The type of the first entry is unknown: the bitmaps are refused, not the disk."""
    image.write(directory(image) + 16, b"\7")
    with format_error("bitmap 0 has the type 7"):
        bitmaps_of(image)
    assert contents(image) == WRITTEN


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - CLUSTER, (1 << 63) - CLUSTER])
@pytest.mark.parametrize("what", ["bitmap directory", "table of bitmap 0"])
def test_offset_and_length_of_directory_and_tables_stay_within_63_bits(
    what: str, offset: int, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    """`info` refuses in one line, `check` says so too, QEMU refuses the image; the disk is read all the same."""
    if what == "bitmap directory":
        image.write(directory_pointer(image) - 8, words(CLUSTER, offset))
    else:
        image.write(directory(image), struct.pack(">QI", offset, 8192))
    message = f"the {what} is at {offset:#x}, beyond what a file can hold"
    assert main(["info", os.fspath(image.path)]) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"vdifs: {image.path}: {message}, 0x7fffffffffffffff bytes: ")
    assert said.out == ""
    ((severity, kind, told),) = audited(image)
    assert (severity, kind) == (Severity.WARNING, "bitmaps")
    assert told.startswith(message)
    assert qemu_warns_or_refuses(image)
    assert contents(image) == WRITTEN


def test_table_entry_bit_0_says_all_ones_where_unallocated(image: Image) -> None:
    image.write(table_of_first(image), words(1))
    assert audited(image) == []
    assert len(oracle.info(image.path)["format-specific"]["data"]["bitmaps"]) == 2
    assert both_read(image) == WRITTEN


@pytest.mark.parametrize("bits", [1, 2, 1 << 57])
def test_a_table_entry_with_an_offset_and_other_bits_is_told(bits: int, image: Image) -> None:
    place = table_of_first(image)
    image.write(place, words(image.words(place, 1)[0] | bits))
    ((severity, kind, message),) = audited(image)
    assert (severity, kind) == (Severity.WARNING, "bitmaps")
    assert message.startswith(f"the table of bitmap 0 at {place:#x}: entry 0 is ")
    assert qemu_warns_or_refuses(image)
    assert contents(image) == WRITTEN


def test_a_table_in_a_hole_of_the_file_is_all_zeros_and_no_problem(image: Image) -> None:
    """Nothing of it need be read."""
    table = -(-image.path.stat().st_size // CLUSTER) * CLUSTER
    os.truncate(image.path, table + 3 * CLUSTER)
    image.write(directory(image), words(table + CLUSTER))
    assert audited(image) == []
    assert len(oracle.info(image.path)["format-specific"]["data"]["bitmaps"]) == 2
    assert both_read(image) == WRITTEN
    image.write(table + CLUSTER, words(2))
    ((severity, kind, message),) = audited(image)
    assert (severity, kind) == (Severity.WARNING, "bitmaps")
    assert message.startswith(f"the table of bitmap 0 at {table + CLUSTER:#x}: entry 0 is 0x2")


def test_a_table_that_two_bitmaps_claim_is_looked_at_once(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands may claim one: it is read for the first of them alone, and its damage is told then."""
    place = table_of_first(image)
    second = directory(image) + 24 + -(-len("recording") // 8) * 8
    assert image.words(second, 1)[0] != place
    image.write(second, words(place))
    read: list[int] = []
    read_table = HostFile.read_table

    def counting(file: HostFile, what: str, offset: int, length: int, cluster_size: int) -> bytes:
        if "bitmap" in what:
            read.append(offset)
        return read_table(file, what, offset, length, cluster_size)

    monkeypatch.setattr(HostFile, "read_table", counting)
    assert audited(image) == []
    assert read == [place]
    image.write(place, words(image.words(place, 1)[0] | 2))
    assert [each[:2] for each in audited(image)] == [(Severity.WARNING, "bitmaps")]


def test_a_table_beyond_the_end_of_the_file_is_told(image: Image) -> None:
    image.write(directory(image), words(1 << 40))
    assert [each[:2] for each in audited(image)] == [(Severity.WARNING, "bitmaps")]
    assert qemu_warns_or_refuses(image)
    assert contents(image) == WRITTEN


def table_of_first(image: Image) -> int:
    """Return where the table of the first bitmap is, which has a bit set, and so an entry with an offset."""
    place = image.words(directory(image), 1)[0]
    assert image.words(place, 1)[0]
    return place
