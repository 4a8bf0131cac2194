"""Every rule of docs/formats.md, VMDK: a file that breaks it, and the error that it gives."""

import errno
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import vmdk
from tests.support.hand_made_chain import read
from tests.support.vmdk import GRAIN, SECTOR, grain_of
from tests.support.vmdk_reading import chain_of, disk_of
from vdifs.errors import FormatError, UnsupportedError, VdifsError
from vdifs.formats.vmdk.format import VMDK

SECTORS = 4 * GRAIN
DISK = {0: grain_of(1), 2: grain_of(2)}
TEXT = vmdk.descriptor().replace(b"custom", b"monolithicSparse")
LINE = f'RW {SECTORS} SPARSE "part.vmdk"'


def refuses(path: Path, pattern: str, kind: type[VdifsError] = FormatError) -> VdifsError:
    """See that reading `path` fails as it should, and names a file of the image; return the error."""
    with pytest.raises(kind) as caught:
        disk_of(path)
    error = caught.value
    assert re.search(pattern, error.what), str(error)
    assert error.where is not None
    assert str(path.parent) in error.where
    assert error.remedy
    assert error.errno == (errno.EOPNOTSUPP if kind is UnsupportedError else errno.EIO)
    return error


def sparse(**fields: Any) -> bytes:
    return vmdk.hosted(SECTORS, DISK, TEXT, **fields)


HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"version": 0}, "version 0, expected 1 to 3"),
    ({"version": 4}, "version 4, expected 1 to 3"),
    ({"flags": 3 | 1 << 16}, "compression and of markers do not go together"),
    ({"flags": 3 | 1 << 17}, "compression and of markers do not go together"),
    ({"flags": 3 | 1 << 18}, "unknown flags: 0x40000"),
    ({"flags": 3 | 1 << 31}, "unknown flags: 0x80000000"),
    ({"capacity": 0}, "capacity of 0"),
    ({"grain_size": 0}, "grains have 0 sectors"),
    ({"grain_size": 100}, "grains have 100 sectors"),
    ({"grain_size": 8192}, "grains have 8192 sectors"),
    ({"descriptor_size": 2049}, "its descriptor lies beyond|2049 sectors"),
    ({"descriptor_offset": 1 << 40}, "descriptor lies beyond the end"),
    ({"num_gtes_per_gt": 0}, "have 0 entries"),
    ({"num_gtes_per_gt": 513}, "have 513 entries"),
    ({"newlines": b"\n \n\n"}, "line ends in its header were converted"),
    ({"newlines": b"\r \r\n"}, "line ends in its header were converted"),
    ({"compress_algorithm": 1}, "compression algorithm 1 does not fit"),
    ({"flags": 3 | 3 << 16}, "compression algorithm 0 does not fit"),
    ({"gd_offset": 0}, "grain directory at 0x0"),
    ({"gd_offset": 1 << 40}, "grain directory at 0x20000000000"),
    ({"gd_offset": (1 << 64) - 2}, "grain directory at"),
    ({"gd_offset": (1 << 64) - 1}, "footer is missing"),
    ({"capacity": (1 << 20) * 512 * GRAIN + 1}, "more than 1048576 entries"),
    ({"overhead": 1 << 30}, "leads to sector"),
    ({"overhead": (1 << 64) - 1}, "leads to sector"),
]


@pytest.mark.parametrize(("fields", "pattern"), HEADERS)
def test_the_header_of_a_sparse_file(tmp_path: Path, fields: dict[str, Any], pattern: str) -> None:
    broken = vmdk.write(tmp_path, "a.vmdk", sparse(**fields))
    kind = UnsupportedError if "more than" in pattern else FormatError
    refuses(broken, pattern, kind)
    vmdk.write(tmp_path, "part.vmdk", vmdk.hosted(SECTORS, DISK, **fields))
    if not set(fields) & {"descriptor_size", "descriptor_offset", "capacity"}:
        refuses(vmdk.write(tmp_path, "b.vmdk", vmdk.descriptor(LINE)), pattern)


def test_what_a_header_may_say(tmp_path: Path) -> None:
    """Versions, flags without a meaning here, converted line ends that nothing promises, an unclean end."""
    allowed: list[dict[str, Any]] = [
        {"version": 3},
        {"flags": 2, "newlines": b"...."},
        {"unclean_shutdown": 1},
        {"flags": 0xFFFB},
    ]
    for fields in allowed:
        assert disk_of(vmdk.write(tmp_path, "a.vmdk", sparse(**fields))) == vmdk.disk(SECTORS, DISK)


def test_the_entries_of_tables(tmp_path: Path) -> None:
    content = sparse()
    gd = int.from_bytes(content[56:64], "little") * SECTOR
    gt = int.from_bytes(content[gd : gd + 4], "little") * SECTOR
    overhead = int.from_bytes(content[64:72], "little")

    def entry(at: int, value: int, whole: bytes = content) -> Path:
        changed = whole[:at] + value.to_bytes(4, "little") + whole[at + 4 :]
        return vmdk.write(tmp_path, "a.vmdk", changed)

    assert disk_of(entry(gt + 4, 0)) == vmdk.disk(SECTORS, DISK)
    refuses(entry(gt + 4, 1), "leads to sector 1, among the first")
    refuses(entry(gt + 4, overhead - 1), "leads to sector")
    assert disk_of(entry(gt + 4, overhead)) == vmdk.disk(SECTORS, DISK | {1: DISK[0]})
    refuses(entry(gt + 4, 1 << 24), "beyond the end of the file")
    refuses(entry(gt + 4, len(content) // SECTOR - 1), "beyond the end of the file")
    refuses(entry(gt + 4, (1 << 32) - 1), "beyond the end of the file")
    refuses(entry(gd, (1 << 32) - 1), "grain table at .* beyond the end")
    refuses(entry(gd, len(content) // SECTOR - 3), "grain table at .* beyond the end")
    two = vmdk.hosted(512 * GRAIN + 1, {0: grain_of(1)}, TEXT)
    gd = int.from_bytes(two[56:64], "little") * SECTOR
    refuses(entry(gd + 4, int.from_bytes(two[gd : gd + 4], "little"), two), "share the table")


def test_a_grain_that_is_cut(tmp_path: Path) -> None:
    """One that the end of the disk cuts may end there."""
    refuses(vmdk.write(tmp_path, "a.vmdk", sparse()[:-SECTOR]), "beyond the end of the file")
    short = vmdk.hosted(SECTORS - 3, {3: grain_of(4)}, TEXT)
    assert disk_of(vmdk.write(tmp_path, "a.vmdk", short[: -3 * SECTOR])) == vmdk.disk(SECTORS - 3, {3: grain_of(4)})
    refuses(vmdk.write(tmp_path, "a.vmdk", short[: -3 * SECTOR - 1]), "beyond the end of the file")


def test_grains_of_zeros_need_their_flag(tmp_path: Path) -> None:
    grains: dict[int, Any] = {0: "zero", 1: grain_of(1)}
    good = vmdk.hosted(SECTORS, grains, TEXT)
    assert disk_of(vmdk.write(tmp_path, "a.vmdk", good)) == vmdk.disk(SECTORS, grains)
    bad = vmdk.hosted(SECTORS, grains, TEXT, flags=3)
    refuses(vmdk.write(tmp_path, "a.vmdk", bad), "leads to sector 1, among")


DESCRIPTORS: list[tuple[bytes, str, type[VdifsError]]] = [
    (b"version=1\n", "version none", FormatError),
    (b"version=0\n", "version '0', expected 1 to 3", FormatError),
    (b"version=4\n", "version '4', expected 1 to 3", FormatError),
    (b"version=1x\n", "version '1x'", FormatError),
    (b"CID=xyz\n", "CID is 'xyz'", FormatError),
    (b"CID=123456789\n", "CID is '123456789'", FormatError),
    (b"parentCID=\n", "parentCID is none", FormatError),
    (b"parentCID=0000000x\n", "parentCID is", FormatError),
    (b'encryptionKeys="vmware:key/list"\n', "encrypted", UnsupportedError),
    (b'iofilters = "vmwarevmcrypt"\n', "encrypted", UnsupportedError),
    (b"parentCID=00000001\n", "no parentFileNameHint", UnsupportedError),
    (b'ddb.uuid.parent="1"\nparentCID=00000001\n', "no parentFileNameHint", UnsupportedError),
    (b'parentFileNameHint="base.vmdk"\n', "its parentCID says that there is none", FormatError),
    (b'parentCID=00000001\nparentFileNameHint="x/"\n', "the name of its parent .* is that of no file", FormatError),
    (b'parentCID=00000001\nparentFileNameHint=".."\n', "the name of its parent .* is that of no file", FormatError),
    (b'parentCID=1\nparentFileNameHint="a\x01b"\n', "the name of its parent .* is that of no file", FormatError),
]


@pytest.mark.parametrize(("more", "pattern", "kind"), DESCRIPTORS)
@pytest.mark.parametrize("embedded", [False, True])
def test_what_a_descriptor_says(
    tmp_path: Path, more: bytes, pattern: str, kind: type[VdifsError], embedded: bool
) -> None:
    """Of a key that is there twice the first counts."""
    mark, rest = b"# Disk DescriptorFile\n", b'version=1\nCID=00000007\nparentCID=ffffffff\ncreateType="custom"\n'
    if more.startswith(b"version=1\n"):
        rest = rest.removeprefix(more)
        more = b""
    text = mark + more + rest + b"RW 512 ZERO\n"
    content = vmdk.hosted(SECTORS, DISK, text) if embedded else text
    refuses(vmdk.write(tmp_path, "a.vmdk", content), pattern, kind)


LINES: list[tuple[str | bytes, str, type[VdifsError]]] = [
    ('RW 512 FLAT "part.vmdk" x', "not the form of one", FormatError),
    ("RW 512", "not the form of one", FormatError),
    ("RW x ZERO", "not the form of one", FormatError),
    ('RW 512 FLAT part.vmdk 0', "not the form of one", FormatError),
    ('RW 512 FLAT "part.vmdk 0', "not the form of one", FormatError),
    ("RW " + "9" * 5000 + " ZERO", "not the form of one", FormatError),
    ("RW 0 ZERO", "0 sectors", FormatError),
    ("RW -1 ZERO", "not the form of one", FormatError),
    (f"RW {(1 << 54) + 1} ZERO", "18014398509481985 sectors", FormatError),
    ('RW 512 FLAT ""', "names no file", FormatError),
    ("RW 512 FLAT", "names no file", FormatError),
    ("RW 512 SPARSE", "names no file", FormatError),
    ('RW 512 SPARSE "part.vmdk" 1', "sparse extent from sector 1 on", FormatError),
    ('NOACCESS 512 FLAT "part.vmdk" 0', "must not be accessed", UnsupportedError),
    ('NOACCESS 512 SPARSE "part.vmdk"', "must not be accessed", UnsupportedError),
    ('RW 512 VMFSRDM "part.vmdk"', r"raw device mapping .*\(VMFSRDM\)", UnsupportedError),
    ('RW 512 VMFSRDMP "part.vmdk"', r"raw device mapping .*\(VMFSRDMP\)", UnsupportedError),
    ('RW 512 VMFSRAW "part.vmdk"', r"raw device mapping .*\(VMFSRAW\)", UnsupportedError),
    ('RW 512 FLAT "/dev/sda" 0', "raw device mapping or a device", UnsupportedError),
    ('RW 512 FLAT "\\\\.\\PhysicalDrive0" 0', "raw device mapping or a device", UnsupportedError),
    ('RW 512 PHANTOM "part.vmdk"', "type 'PHANTOM'", UnsupportedError),
    ("what is this", "line 9 of the descriptor is no extent, nor a key", FormatError),
    ("RWX 512 ZERO", "is no extent, nor a key", FormatError),
    ('RW 513 FLAT "part.vmdk" 0', "beyond the end of the file", FormatError),
    ('RW 512 FLAT "part.vmdk" 1', "beyond the end of the file", FormatError),
    (f'RW 512 FLAT "part.vmdk" {1 << 54}', "beyond the end of the file", FormatError),
    ('RW 512 SPARSE "part.vmdk"', "begins with none of", FormatError),
]  # fmt: skip


@pytest.mark.parametrize(("line", "pattern", "kind"), LINES)
def test_the_lines_of_extents(tmp_path: Path, line: str, pattern: str, kind: type[VdifsError]) -> None:
    vmdk.write(tmp_path, "part.vmdk", bytes(512 * SECTOR))
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor("RW 1 ZERO", line)), pattern, kind)


def test_how_many_extents_there_are(tmp_path: Path) -> None:
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor()), "0 extents, expected 1 to 32768")
    most = vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*["RW 1 ZERO"] * 32768))
    assert disk_of(most) == bytes(32768 * SECTOR)
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*["RW 1 ZERO"] * 32769)), "32769 extents")
    large = vmdk.descriptor(f"RW {1 << 54} ZERO", "RW 1 ZERO")
    refuses(vmdk.write(tmp_path, "a.vmdk", large), "18014398509481985 sectors together")
    large = vmdk.descriptor(f"RW {1 << 54} ZERO")
    refuses(vmdk.write(tmp_path, "a.vmdk", large), "18014398509481984 sectors together, expected at most")


def test_how_many_files_there_are(tmp_path: Path) -> None:
    lines = [f'RW 1 FLAT "{number}"' for number in range(8193)]
    many = vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*lines))
    refuses(many, "its extents lie in 8193 files: more than 8192 are not opened for one image", UnsupportedError)
    with read(VMDK, vmdk.write(tmp_path, "b.vmdk", vmdk.descriptor(*lines[1:], 'RW 1 FLAT "8192" 9'))) as (_, said):
        assert len(said.data_files) == 8192


def test_the_directories_of_all_extents_are_bounded_together(tmp_path: Path) -> None:
    capacity = (1 << 20) * 512 * GRAIN
    content = vmdk.hosted(1, {}, capacity=capacity).ljust((1 << 23), b"\0")
    vmdk.write(tmp_path, "part.vmdk", content)
    once = f'RW {capacity} SPARSE "part.vmdk"'
    with chain_of(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(once))) as chain:
        assert chain.virtual_size == capacity * SECTOR
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(once, once)), "more than 1048576", UnsupportedError)


@pytest.mark.parametrize(
    "content", [vmdk.hosted(SECTORS, DISK), vmdk.cowd(SECTORS, {0: grain_of(1, 1)}), vmdk.sesparse(SECTORS, {})]
)
def test_the_capacity_is_that_of_the_line(tmp_path: Path, content: bytes) -> None:
    vmdk.write(tmp_path, "part.vmdk", content)
    assert len(disk_of(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(LINE)))) == SECTORS * SECTOR
    for wrong in (SECTORS - 1, SECTORS + 1):
        line = LINE.replace(str(SECTORS), str(wrong))
        refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(line)), f"says {SECTORS} sectors, .* {wrong}")


COWD: list[tuple[dict[str, Any], str]] = [
    ({"version": 2}, "version 2 and flags"),
    ({"flags": 1}, "flags 0x1"),
    ({"capacity": 0}, "capacity of 0"),
    ({"grain_size": 3}, "grains have 3 sectors"),
    ({"grain_size": 0}, "grains have 0 sectors"),
    ({"gd_offset": 3}, "within its header"),
    ({"gd_offset": 1 << 31}, "grain directory at 0x10000000000"),
    ({"gd_entries": 0}, "has 0 entries, and its disk needs 1"),
]


@pytest.mark.parametrize(("fields", "pattern"), COWD)
def test_cowd(tmp_path: Path, fields: dict[str, Any], pattern: str) -> None:
    vmdk.write(tmp_path, "part.vmdk", vmdk.cowd(SECTORS, {5: grain_of(1, 1)}, **fields))
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(LINE)), pattern)


def test_cowd_has_no_grains_of_zeros(tmp_path: Path) -> None:
    content = bytearray(vmdk.cowd(SECTORS, {5: grain_of(1, 1)}))
    content[5 * SECTOR : 5 * SECTOR + 4] = b"\1\0\0\0"
    vmdk.write(tmp_path, "part.vmdk", bytes(content))
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(LINE)), "leads to sector 1")


SESPARSE: list[tuple[dict[str, Any], str]] = [
    ({"magic": 0x1CAFEBABE}, "begins with none of"),
    ({"version": 0x200000002}, "version 0x200000002"),
    ({"capacity": 0}, "capacity of 0"),
    ({"grain_size": 16}, "grains have 16 sectors"),
    ({"grain_table_size": 32}, "grain tables 32"),
    ({"flags": 1}, "that must be zero"),
    ({"reserved1": 1}, "that must be zero"),
    ({"reserved4": 1 << 63}, "that must be zero"),
    ({"volatile_header_offset": 0}, "volatile header at 0x0"),
    ({"volatile_header_offset": 1 << 40}, "volatile header at"),
    ({"volatile_header_offset": 1 << 63}, "beyond all that a file can hold"),
    ({"grain_dir_offset": 0}, "lie on its header"),
    ({"grain_dir_offset": 1 << 40}, "grain directory at"),
    ({"grain_dir_size": 0}, "has 0 entries, and its disk needs 1"),
    ({"grain_tables_offset": 0}, "lie on its header"),
    ({"grain_tables_offset": 1 << 40}, "beyond the end of the file"),
    ({"grain_tables_size": 63}, "no table of it"),
    ({"grains_offset": 0}, "lie on its header"),
    ({"grains_offset": 1 << 40}, "beyond the end of the file"),
    ({"grains_offset": 1 << 53}, "beyond all|beyond the end of the file"),
    ({"volatile_magic": 0xCAFECAFF}, "volatile header begins with 0xcafecaff"),
    ({"replay": 1}, "journal is to be replayed"),
    ({"directory_entry": 1}, "is 0x1: no table of it"),
    ({"directory_entry": 0x20000000 << 32}, "no table of it"),
    ({"directory_entry": 0x10000000 << 32 | 1}, "no table of it"),
    ({"directory_entry": 0x10000000 << 32 | 0xFFFFFFFF}, "no table of it"),
]


@pytest.mark.parametrize(("fields", "pattern"), SESPARSE)
def test_sesparse(tmp_path: Path, fields: dict[str, Any], pattern: str) -> None:
    vmdk.write(tmp_path, "part.vmdk", vmdk.sesparse(SECTORS, {5: grain_of(1, 8)}, **fields))
    kind = UnsupportedError if "replay" in fields else FormatError
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(LINE)), pattern, kind)


def test_sesparse_is_zero_behind_its_fields(tmp_path: Path) -> None:
    vmdk.write(tmp_path, "part.vmdk", vmdk.sesparse(SECTORS, {}, padding=bytes(303) + b"\1"))
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(LINE)), "that must be zero")


@pytest.mark.parametrize(
    ("entry", "pattern"),
    [
        (1, "of no known type"),
        (4 << 60, "of no known type"),
        (0xF << 60, "of no known type"),
        (vmdk.sesparse_entry(1), "beyond the end of the file"),
        (vmdk.sesparse_entry((1 << 60) - 1), "beyond all that a file can hold"),
    ],
)
def test_the_entries_of_sesparse(tmp_path: Path, entry: int, pattern: str) -> None:
    content = vmdk.sesparse(SECTORS, {5: grain_of(1, 8)}, entries={9: entry})
    vmdk.write(tmp_path, "part.vmdk", content)
    refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(LINE)), pattern)


STREAM = TEXT.replace(b"monolithicSparse", b"streamOptimized")
PACKED: list[tuple[str, dict[int, bytes], dict[int, tuple[int, int]]]] = [
    ("is sector 7 of the disk, expected 0", {}, {0: (7, 100)}),
    ("is sector 128 of the disk, expected 0", {}, {0: (128, 100)}),
    ("has 131073 bytes, expected 1 to 131072", {}, {0: (0, 131073)}),
    ("has 0 bytes, expected 1", {}, {0: (0, 0)}),
    ("holds 0 bytes", {}, {0: (0, 20)}),
    ("damaged: .*checksum", {0: zlib.compress(grain_of(1))[:-1] + b"x"}, {}),
    ("checksum is missing", {0: zlib.compress(grain_of(1))[:-4]}, {}),
    ("checksum is missing", {0: zlib.compress(grain_of(1))[:-1]}, {}),
    ("holds 65537 bytes and more", {0: zlib.compress(grain_of(1) + b"x")}, {}),
    ("holds 65537 bytes and more", {0: zlib.compress(bytes(1 << 26))}, {}),
    ("holds 65535 bytes, expected 65536", {0: zlib.compress(grain_of(1)[:-1])}, {}),
    ("holds 0 bytes, expected 65536", {0: zlib.compress(b"")}, {}),
    ("damaged", {0: zlib.compress(grain_of(1))[2:-4]}, {}),
    ("damaged", {0: b"\xff" * 100}, {}),
    ("holds 1023 bytes, expected 1024", {3: zlib.compress(bytes(1023))}, {}),
]


@pytest.mark.parametrize(("pattern", "packed", "markers"), PACKED)
def test_packed_grains(
    tmp_path: Path, pattern: str, packed: dict[int, bytes], markers: dict[int, tuple[int, int]]
) -> None:
    """A damaged one fails where it is read, and no other with it."""
    grains = {0: grain_of(1), 1: grain_of(2), 3: grain_of(3)}
    sectors = 3 * GRAIN + 2
    content = vmdk.stream(sectors, grains, STREAM, packed=packed, markers=markers)
    refuses(vmdk.write(tmp_path, "a.vmdk", content), pattern)


def test_the_end_of_packed_grains(tmp_path: Path) -> None:
    content = vmdk.stream(SECTORS, {0: grain_of(1)}, STREAM, footer=False)
    gt = content.index((128).to_bytes(4, "little") + bytes(2044))
    for sector, pattern in (
        (1 << 24, "packed grain lies at .* beyond the end"),
        (len(content) // SECTOR, "packed grain lies at"),
        (1, "leads to sector 1, among the first 128"),
    ):
        broken = content[:gt] + sector.to_bytes(4, "little") + content[gt + 4 :]
        refuses(vmdk.write(tmp_path, "a.vmdk", broken), pattern)
    at = len(content) // SECTOR
    behind = content[:gt] + at.to_bytes(4, "little") + content[gt + 4 :] + bytes(8) + (200).to_bytes(4, "little")
    refuses(vmdk.write(tmp_path, "a.vmdk", behind + bytes(199)), "it ends at .* beyond the end of the file")


Change = Callable[[bytes], bytes]
FOOTERS: list[tuple[str, Change]] = [
    ("footer is missing", lambda c: c[:-1]),
    ("footer is missing", lambda c: c[:-512]),
    ("footer is missing", lambda c: c[:-1536] + bytes(1536)),
    ("footer is missing", lambda c: c[:-1524] + b"\2" + c[-1523:]),
    ("no end marker behind", lambda c: c[:-1] + b"x"),
    ("begins with b'KDMX'", lambda c: c[:-1021] + b"X" + c[-1020:]),
    ("the field capacity", lambda c: c[: -1024 + 12] + b"\1" + c[-1024 + 13 :]),
    ("the field grain_size", lambda c: c[: -1024 + 20] + b"\x40" + c[-1024 + 21 :]),
    ("the field num_gtes_per_gt", lambda c: c[: -1024 + 45] + b"\1" + c[-1024 + 46 :]),
    ("does not say where its tables are", lambda c: c[: -1024 + 56] + b"\xff" * 8 + c[-1024 + 64 :]),
]


@pytest.mark.parametrize(("pattern", "change"), FOOTERS)
def test_footers(tmp_path: Path, pattern: str, change: Change) -> None:
    good = vmdk.stream(SECTORS, {0: grain_of(1)}, STREAM)
    assert disk_of(vmdk.write(tmp_path, "a.vmdk", good)) == vmdk.disk(SECTORS, {0: grain_of(1)})
    broken = change(good)
    assert broken != good
    refuses(vmdk.write(tmp_path, "a.vmdk", broken), pattern)


def test_extents_of_streams_must_fit_one_another(tmp_path: Path) -> None:
    """Units of one size at multiples of it: what does not fit is refused, by name."""
    one = vmdk.stream(2 * GRAIN, {0: grain_of(1), 1: grain_of(2)})
    two = vmdk.stream(GRAIN, {0: grain_of(3)})
    for name, content in (("one", one), ("two", two), ("odd", vmdk.stream(GRAIN - 1, {0: grain_of(4)}))):
        vmdk.write(tmp_path, f"{name}.bin", content)
    vmdk.write(tmp_path, "small.bin", vmdk.stream(64, {0: grain_of(5, 64)}, grain=64))
    lines = {name: f'RW {count} SPARSE "{name}.bin"' for name, count in
             (("one", 256), ("two", 128), ("odd", 127), ("small", 64))}  # fmt: skip
    good = vmdk.descriptor(lines["one"], "RW 128 ZERO", lines["two"])
    wanted = vmdk.disk(512, {0: grain_of(1), 1: grain_of(2), 3: grain_of(3)})
    assert disk_of(vmdk.write(tmp_path, "a.vmdk", good)) == wanted
    only = vmdk.descriptor("RW 128 ZERO", lines["odd"], "RW 3 ZERO")
    assert disk_of(vmdk.write(tmp_path, "a.vmdk", only)) == bytes(65536) + grain_of(4)[:-SECTOR] + bytes(3 * SECTOR)
    for bad in (
        (lines["one"], "RW 1 ZERO", lines["two"]), ("RW 5 ZERO", lines["two"]), (lines["two"], lines["odd"]),
        (lines["odd"], "RW 1 ZERO", lines["two"]), (lines["small"], "RW 64 ZERO", lines["two"]),
    ):  # fmt: skip
        refuses(vmdk.write(tmp_path, "a.vmdk", vmdk.descriptor(*bad)), "do not fit one another", UnsupportedError)


def test_a_parent_with_another_identity_is_not_read(tmp_path: Path) -> None:
    vmdk.write(tmp_path, "base.vmdk", vmdk.descriptor("RW 1 ZERO", cid="0000000a"))
    child = vmdk.descriptor("RW 1 ZERO", cid="0000000b", parent_cid="A", hint="base.vmdk")
    assert disk_of(vmdk.write(tmp_path, "a.vmdk", child)) == bytes(SECTOR)
    vmdk.write(tmp_path, "base.vmdk", vmdk.descriptor("RW 1 ZERO", cid="0000000c"))
    with pytest.raises(VdifsError, match="with the identity 0000000a is not found"):
        disk_of(tmp_path / "a.vmdk")
