"""Where a differencing VHD has its parent looked for: docs/formats.md, "Detection", and what such names may not do."""

import re
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vdifs
from tests.support import vhd
from tests.support.hand_made_chain import read
from tests.support.vhd import Vhd
from vdifs.errors import ChainError, FormatError
from vdifs.formats.image_format import Front, Metadata, Parent
from vdifs.formats.vhd.format import VHD
from vdifs.formats.vhd.format import Vhd as VhdFormat
from vdifs.formats.vhd.parent_names import candidates, decoded

MIB = 1 << 20
PARENT = UUID("12345678-9abc-def0-1122-334455667788")


def wide(name: str) -> bytes:
    return name.encode("utf-16-be")


@pytest.mark.parametrize(
    ("code", "name", "wanted"),
    [
        (b"W2ru", r".\b.vhd", ["b.vhd"]),
        (b"W2ru", r"..\base\b.vhd", ["../base/b.vhd"]),
        (b"W2ru", r".\.\sub\b.vhd", ["sub/b.vhd"]),
        (b"W2ru", "sub/b.vhd", ["sub/b.vhd"]),
        (b"W2ru", r"C:\vm\b.vhd", []),  # what it calls itself is not believed
        (b"W2ru", "/vm/b.vhd", []),
        (b"W2ku", r".\b.vhd", ["b.vhd"]),  # as vhd-util writes it
        (b"W2ku", r"sub\b.vhd", ["sub/b.vhd", "b.vhd"]),
        (b"W2ku", r"C:\vm\b.vhd", ["b.vhd"]),
        (b"W2ku", r"c:b.vhd", ["b.vhd"]),
        (b"W2ku", r"\\server\share\b.vhd", ["b.vhd"]),
        (b"W2ku", r"\\?\C:\vm\b.vhd", ["b.vhd"]),
        (b"W2ku", r"\vm\b.vhd", ["b.vhd"]),
        (b"W2ku", "/tmp/x/b.vhd", ["b.vhd"]),  # as FATtools writes it
        (b"W2ku", "file:///tmp/b.vhd", ["b.vhd"]),
        (b"Wi2r", r".\b.vhd", ["b.vhd"]),
        (b"Wi2r", r"C:\b.vhd", []),
        (b"Wi2k", r"C:\b.vhd", []),
        (b"Mac ", "b.vhd", []),
        (b"MacX", "file://./b.vhd", ["b.vhd"]),
        (b"MacX", "FILE://../x/b.vhd", ["../x/b.vhd", "b.vhd"]),
        (b"MacX", "file://./a%20b.vhd", ["a%20b.vhd", "a b.vhd"]),
        (b"MacX", "file:///vm/b.vhd", ["b.vhd"]),
        (b"MacX", "file://host/vm/b.vhd", ["b.vhd"]),
        (b"MacX", "file://./%2e%2e/b.vhd", ["%2e%2e/b.vhd", "../b.vhd", "b.vhd"]),
        (b"MacX", "file://./%ff.vhd", ["%ff.vhd"]),
        (b"MacX", "./b.vhd", []),
        *[
            (b"W2ru", name, [])
            for name in ("", ".", "..", "./", "a/", "a/..", "x\n.vhd", "a\x1b/b.vhd", "a\x9f.vhd", "a\0b")
        ],
        *[(b"W2ku", name, []) for name in (r"C:\x" + "\\", r"C:\..", "/tmp/\x07.vhd")],
    ],
)
def test_what_a_locator_makes_a_candidate(code: bytes, name: str, wanted: list[str]) -> None:
    assert list(candidates([(code, name)], b"")) == wanted


def test_the_order_of_candidates_is_that_of_their_kinds() -> None:
    said = [(b"Wi2r", "i.vhd"), (b"MacX", "file://./m.vhd"), (b"W2ku", r"C:\x\k.vhd"), (b"W2ru", r"..\r.vhd")]
    assert candidates(said, wide(r"D:\n.vhd")) == ("../r.vhd", "m.vhd", "i.vhd", "k.vhd", "n.vhd")
    assert candidates([(b"W2ku", r"a\b.vhd"), (b"W2ru", "b.vhd")], wide("b.vhd")) == ("b.vhd", "a/b.vhd")


@pytest.mark.parametrize(
    ("code", "data", "wanted"),
    [
        (b"W2ru", "ä.vhd\0\0".encode("utf-16-le"), "ä.vhd"),
        (b"W2ku", b"a", None),
        (b"W2ku", b"\0\xd8", None),  # half of a surrogate pair
        (b"MacX", "ä\0".encode(), "ä"),
        (b"MacX", b"\xff", None),
        (b"Wi2r", b"\xe4", None),
        (b"Mac ", b"a", None),
        (bytes(4), b"a", None),
    ],
)
def test_how_locators_are_decoded(code: bytes, data: bytes, wanted: str | None) -> None:
    assert decoded(code, data) == wanted


@given(
    said=st.lists(st.tuples(st.sampled_from([b"W2ru", b"W2ku", b"MacX", b"Wi2r"]), st.text("ab./\\:%2efil\0\n"))),
    name=st.binary(max_size=20),
)
def test_no_candidate_is_absolute_or_has_control_characters(said: list[tuple[bytes, str]], name: bytes) -> None:
    for each in candidates(said, name):
        assert not each.startswith("/")
        assert "\\" not in each
        assert each.rsplit("/", 1)[-1] not in {"", ".", ".."}
        assert all(character.isprintable() or ord(character) > 0x9F for character in each)
    assert len(set(candidates(said, name))) == len(candidates(said, name))


def child(**more: object) -> Vhd:
    return Vhd(MIB, uuid=UUID(int=2), **({"parent": PARENT} | more))  # type: ignore[arg-type] # passed on


def test_a_child_names_its_parent_by_its_uuid(tmp_path: Path) -> None:
    made = child(name=r"C:\b.vhd", locators=[(b"W2ru", r".\x.vhd".encode("utf-16-le"))])
    with read(VHD, made.write(tmp_path / "c.vhd")) as (_, metadata):
        parent = metadata.parent
        assert metadata.backing is None
        assert metadata.identities == {str(UUID(int=2))}
    assert parent is not None
    assert (parent.names, parent.format) == (("x.vhd", "b.vhd"), "vpc")
    assert parent.identities == {str(PARENT)}
    assert parent.said == r".\x.vhd"
    for made in (Vhd(MIB), Vhd(MIB, name="b.vhd")):
        with read(VHD, made.write(tmp_path / "a.vhd")) as (_, metadata):
            assert metadata.parent is None


def test_a_raw_parent_is_stated_by_a_zero_uuid_of_tapdisk(tmp_path: Path) -> None:
    made = child(parent=UUID(int=0), name="b.raw", footer_fields={"creator": b"tap\0"})
    with read(VHD, made.write(tmp_path / "c.vhd")) as (_, metadata):
        assert metadata.parent == Parent(("b.raw",), frozenset(), "b.raw", "raw")
    made.name = "C:\\"
    with pytest.raises(FormatError, match="has no name for that"), read(VHD, made.write(tmp_path / "c.vhd")):
        pass


def test_an_image_without_a_uuid_is_named_by_none(tmp_path: Path) -> None:
    with read(VHD, Vhd(MIB, uuid=UUID(int=0)).write(tmp_path / "a.vhd")) as (_, metadata):
        assert metadata.identities == frozenset()


def test_locators_that_are_too_long_or_outside_of_the_file_are_ignored(tmp_path: Path) -> None:
    good = "b.vhd".encode("utf-16-le")
    made = child(locators=[(b"W2ku", "x".encode("utf-16-le") * 2049), (b"W2ru", good)])
    path = made.write(tmp_path / "c.vhd")
    with read(VHD, path) as (_, metadata):
        assert metadata.parent is not None
        assert metadata.parent.names == ("b.vhd",)
    for offset in (path.stat().st_size - 9, (1 << 64) - 1):
        head = vhd.header([(b"W2ru", 10, offset)], bat_entries=1, parent_uuid=PARENT.bytes)
        with path.open("r+b") as file:
            file.seek(512)
            file.write(head)
        with read(VHD, path) as (_, metadata):
            assert metadata.parent is not None
            assert metadata.parent.names == ()


def test_a_name_that_ends_behind_the_file_is_no_part_of_one(tmp_path: Path) -> None:
    made = child(end=False)
    made.put(MIB - 512, bytes(502) + "b.vhd".encode("utf-16-le"))
    path = made.write(tmp_path / "c.vhd")
    at = made.places()[0] + made.bitmap_space + MIB
    for length, names in ((10, ("b.vhd",)), (12, ())):
        head = vhd.header([(b"W2ru", length, at - 10)], bat_entries=1, parent_uuid=PARENT.bytes)
        with path.open("r+b") as file:
            file.truncate(at)
            file.seek(512)
            file.write(head)
        with read(VHD, path) as (_, metadata):
            assert metadata.parent is not None
            assert metadata.parent.names == names


def test_a_parent_that_is_not_there_is_told_of_once_and_with_what_tells_it(tmp_path: Path) -> None:
    path = child(locators=[(b"W2ru", r".\x.vhd".encode("utf-16-le"))]).write(tmp_path / "c.vhd")
    said = rf"its parent '.\x.vhd' with the identity {PARENT} is not found: tried x.vhd (it is not there): put"
    with pytest.raises(ChainError, match=re.escape(f"c.vhd: {said}")):
        vdifs.open(path)
    child().write(path)
    with pytest.raises(ChainError, match=re.escape(f"c.vhd: its parent '{PARENT}' is not found: no image of")):
        vdifs.open(path)
    child(parent=UUID(int=0), name="b.raw", footer_fields={"creator": b"tap\0"}).write(path)
    with pytest.raises(ChainError, match=re.escape("c.vhd: its parent 'b.raw', a raw image, is not found: tried")):
        vdifs.open(path)


def test_each_image_of_a_chain_is_read_once_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, below in ((1, None), (2, 1), (3, 2)):
        parent = None if below is None else UUID(int=below)
        made = Vhd(MIB, uuid=UUID(int=number), parent=parent, name="" if below is None else f"{below}.vhd")
        made.put(0, bytes([number]) * 512)
        made.write(tmp_path / f"{number}.vhd")
    found, read_it = list[str](), VhdFormat.read

    def counting(self: VhdFormat, front: Front, *, corrupt_too: bool = False) -> Metadata:
        found.append(Path(front.file.path).name)
        return read_it(self, front, corrupt_too=corrupt_too)

    monkeypatch.setattr(VhdFormat, "read", counting)
    with vdifs.open(tmp_path / "3.vhd", view="raw") as image:
        assert image.read_at(0, 512) == bytes([3]) * 512
    assert found == ["3.vhd", "2.vhd", "1.vhd"]
