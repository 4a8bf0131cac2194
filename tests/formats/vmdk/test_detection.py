"""Which files are images, which are parts of one, and which names a descriptor leads to."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import vmdk
from tests.support.vmdk import grain_of
from tests.support.vmdk_reading import by_libvmdk, disk_of, metadata_of, opened
from vdifs.errors import FormatError
from vdifs.formats.image_format import Front
from vdifs.formats.vmdk.format import VMDK
from vdifs.formats.vmdk.names import parent_names, preferred, spellings

TEXT = vmdk.descriptor("RW 1 ZERO")
MONOLITHIC = vmdk.hosted(512, {}, TEXT)

IMAGE, PART, NEITHER = (True, False), (False, True), (False, False)
FILES = [
    ("a.vmdk", TEXT, IMAGE),
    ("a.txt", TEXT, IMAGE),
    ("a.vmdk", TEXT.replace(b"# Disk DescriptorFile", b" \r\n\t# DISK descriptorFILE"), IMAGE),
    ("a.vmdk", TEXT.ljust(1 << 20, b"\0"), IMAGE),
    ("a.vmdk", TEXT.ljust((1 << 20) + 1, b"\0"), NEITHER),
    ("a.vmdk", b"version=1\n" + TEXT, NEITHER),
    ("a.vmdk", b"", NEITHER),
    ("a.vmdk", MONOLITHIC, IMAGE),
    ("a.vmdk", vmdk.stream(128, {0: grain_of(1)}, TEXT), IMAGE),
    ("a.vmdk", vmdk.hosted(512, {}, TEXT, version=9), IMAGE),
    ("a.vmdk", MONOLITHIC[:40], IMAGE),
    ("a.vmdk", vmdk.hosted(512, {}, TEXT, descriptor_offset=1 << 40), IMAGE),
    ("a.vmdk", vmdk.hosted(512, {}), PART),
    ("a.vmdk", vmdk.hosted(512, {}, bytes(20 * 512)), PART),
    ("a.vmdk", vmdk.hosted(512, {}, TEXT.replace(b"createType", b"#createType")), PART),
    ("a.vmdk", vmdk.cowd(512, {}), PART),
    ("a.vmdk", vmdk.sesparse(512, {}), PART),
    ("a-delta.vmdk", vmdk.cowd(512, {}), PART),
    ("a-flat.vmdk", bytes(512), PART),
    ("a-FLAT.VMDK", bytes(512), PART),
    ("a-flat.vmdk", TEXT, PART),
    ("a-flat.vmdk", MONOLITHIC, PART),
    ("a-flat.vmdk", b"QFI\xfb" + bytes(508), PART),
    ("a-delta.vmdk", MONOLITHIC, PART),
    ("a-sesparse.vmdk", TEXT, PART),
    ("a-f001.vmdk", TEXT, PART),
    ("a-s001.vmdk", vmdk.hosted(512, {}, TEXT), PART),
    ("a-s1000.vmdk", TEXT, PART),
    ("a-ctk.vmdk", b"\xa2\x72\x19\xf6" + bytes(508), PART),
    ("a-s01.vmdk", TEXT, IMAGE),
    ("a-f001.vmdk.bak", TEXT, IMAGE),
    ("a-000001.vmdk", TEXT, IMAGE),
    ("flat.vmdk", TEXT, IMAGE),
]


@pytest.mark.parametrize(("name", "content", "what"), FILES)
def test_a_file_is_an_image_or_a_part_of_one(
    tmp_path: Path, name: str, content: bytes, what: tuple[bool, bool]
) -> None:
    with ExitStack() as stack:
        front = Front(opened(vmdk.write(tmp_path, name, content), stack))
        assert (VMDK.probe(front), VMDK.is_part(front, f"some/folder/{name}")) == what


@pytest.mark.parametrize("content", [vmdk.cowd(512, {}), vmdk.sesparse(512, {}), vmdk.hosted(512, {})])
def test_a_part_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match=r"part\.bin: it is an extent of a VMDK.*: name the descriptor"):
        metadata_of(vmdk.write(tmp_path, "part.bin", content))
    with pytest.raises(FormatError, match="it is no VMDK descriptor"):
        metadata_of(vmdk.write(tmp_path, "other.bin", b"other"))


def test_a_descriptor_may_be_written_in_many_ways(tmp_path: Path) -> None:
    content = grain_of(1, 3)
    vmdk.write(tmp_path, "a b.bin", content)
    text = (
        b'# Disk DescriptorFile\r\n VERSION = "2" \r\n\tcid=ABC\r\nCID=1\r\n#CID=2\r\nParentCid = "FFFFFFFF"\r\n\r\n'
        b'  rw   3\tflat "a b.bin" 0 and more\r\nddb.x = "a=b"\r\nchangeTrackPath="x-ctk.vmdk"\r\n\0RW 5 ZERO\n\xff'
    )
    image = vmdk.write(tmp_path, "a.vmdk", text)
    metadata = metadata_of(image)
    assert metadata.identities == {"00000abc"}
    assert metadata.parent is None
    assert metadata.data_files == ("a b.bin",)
    assert disk_of(image) == content


def test_an_image_without_a_cid_is_no_parent(tmp_path: Path) -> None:
    assert metadata_of(vmdk.write(tmp_path, "a.vmdk", TEXT.replace(b"\nCID", b"\n#CID"))).identities == frozenset()


HINTS = [
    (b"a.vmdk", ("a.vmdk",)),
    (b"./a.vmdk", ("a.vmdk",)),
    (b".//./a.vmdk", ("a.vmdk",)),
    (b"../x/a.vmdk", ("../x/a.vmdk", "a.vmdk")),
    (b"..\\x\\p.vmdk", ("..\\x\\p.vmdk", "../x/p.vmdk", "p.vmdk")),
    (b".\\p.vmdk", (".\\p.vmdk", "p.vmdk")),
    (b"/vmfs/volumes/1/vm/a.vmdk", ("a.vmdk",)),
    (b"C:\\vm\\a.vmdk", ("a.vmdk",)),
    (b"c:a.vmdk", ("c:a.vmdk",)),
    (b"\\vm\\a.vmdk", ("a.vmdk",)),
    (b"\\\\server\\share\\a.vmdk", ("a.vmdk",)),
    (b"\\\\?\\C:\\vm\\a.vmdk", ("a.vmdk",)),
    (b"file:///vm/a.vmdk", ("a.vmdk",)),
    (b"file://host/vm/a.vmdk", ("a.vmdk",)),
    (b"/etc/..", ()),
    (b"x/.", ()),
    (b"x/", ()),
    (b"a\nb", ()),
    (b"a\x7fb", ()),
    (b"x" * 5000, ()),
]


@pytest.mark.parametrize(("hint", "names"), HINTS)
def test_where_a_parent_is_looked_for(hint: bytes, names: tuple[str, ...]) -> None:
    assert parent_names(hint, b"UTF-8") == names


def test_a_parent_is_told_of_with_its_identity(tmp_path: Path) -> None:
    text = vmdk.descriptor("RW 1 ZERO", parent_cid="AB", hint="/vm/base.vmdk")
    parent = metadata_of(vmdk.write(tmp_path, "a.vmdk", text)).parent
    assert parent is not None
    assert (parent.names, *parent.identities) == (("base.vmdk",), "000000ab")
    assert (parent.said, parent.format) == ("/vm/base.vmdk", "vmdk")


ENCODED = [
    ("UTF-8", "utf-8", "é"),
    ("windows-1252", "cp1252", "é"),
    ("windows-1251", "cp1251", "диск"),
    ("GBK", "gbk", "磁盘"),
    ("Big5", "big5", "磁碟"),
    ("Shift_JIS", "cp932", "ディスク表"),
]


@pytest.mark.parametrize(("stated", "codec", "word"), ENCODED)
def test_names_are_in_the_encoding_that_is_stated(tmp_path: Path, stated: str, codec: str, word: str) -> None:
    name = word.encode(codec)
    assert spellings(name, stated.encode())[-1] == word
    assert preferred(name, stated.encode()) == word
    assert preferred(word.encode(), stated.encode()) == word
    content = grain_of(1, 5)
    vmdk.write(tmp_path, f"{word}.bin", content)
    text = vmdk.descriptor(b'RW 5 FLAT "' + name + b'.bin" 0', more=f'encoding="{stated}"\n'.encode())
    image = vmdk.write(tmp_path, "a.vmdk", text.replace(b"custom", b"monolithicFlat"))
    assert disk_of(image) == content
    if stated != "Shift_JIS":
        assert by_libvmdk(image) == content
    child = vmdk.descriptor("RW 5 ZERO", parent_cid="1", hint=name + b".vmdk", more=f'encoding="{stated}"\n'.encode())
    parent = metadata_of(vmdk.write(tmp_path, "b.vmdk", child)).parent
    assert parent is not None
    assert f"{word}.vmdk" in parent.names


@pytest.mark.parametrize("stated", [b"", b"rot13", b"punycode", b"utf-16", b"undefined", b"x" * 100])
def test_an_encoding_that_is_not_known_leaves_names_as_they_are(stated: bytes) -> None:
    assert spellings(b"d\xe4", stated) == ("d\udce4",)
    assert preferred(b"d\xe4", stated) == "d\udce4"


def test_bytes_that_are_not_of_their_encoding_stay_as_they_are() -> None:
    assert spellings(b"\xff\xff", b"gbk") == ("\udcff\udcff",)
