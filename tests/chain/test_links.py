"""The rules of a chain, whatever the images are looked up in: here in a table."""

from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.chain.links import Fault, ImageRef, read_as, resolve, said_of_file
from vdifs.chain.policy import MAX_DEPTH
from vdifs.errors import ChainError, FormatError, PolicyError, UnsupportedError, VdifsError
from vdifs.formats.image_format import ImageFormat
from vdifs.formats.qcow2.format import QCOW2
from vdifs.formats.raw import RAW


@dataclass
class Table:
    """A lookup: `backings` says what each image names; its letter is its identity, so `a1` and `a2` are one file."""

    backings: dict[str, ImageRef | None]
    read_files: list[str] = field(default_factory=list)

    def find(self, ref: ImageRef, above: str | None) -> tuple[ImageRef, str]:
        if ref.path not in self.backings:
            raise ChainError(f"{above} names {ref.path}")
        return ref, ref.path

    def identity(self, file: str) -> tuple[int, int]:
        return 0, int(file) if file.isdigit() else ord(file[0])

    def read(self, ref: ImageRef, file: str, above: str | None) -> str:
        self.read_files.append(f"{ref.name} as {ref.stated} below {above}")
        return file

    def backing(self, link: str) -> ImageRef | None:
        return self.backings[link]

    def refusal(self, fault: Fault, ref: ImageRef, file: str, above: str | None) -> VdifsError:
        return ChainError(f"{fault.name}: {file} below {above}")


def links(**named: str | None) -> dict[str, ImageRef | None]:
    return {path: None if backing is None else ImageRef(backing, stated="qcow2") for path, backing in named.items()}


def test_each_link_is_looked_up_as_the_one_above_names_it() -> None:
    table = Table({"a": ImageRef("b", stated="raw"), "b": ImageRef("c"), "c": None})
    assert list(resolve(ImageRef("a", "snap", "qcow2"), table)) == ["a", "b", "c"]
    assert table.read_files == ["a@snap as qcow2 below None", "b as raw below a", "c as None below b"]


def test_a_link_is_given_before_the_next_is_looked_for() -> None:
    """So that what is above a broken link can be told."""
    chain = resolve(ImageRef("a"), Table(links(a="b", b="gone")))
    assert list(islice(chain, 2)) == ["a", "b"]
    with pytest.raises(ChainError, match="b names gone"):
        next(chain)


def test_a_file_that_is_above_already_ends_the_chain_whatever_it_is_called() -> None:
    table = Table(links(a1="b", b="a2", a2="c", c=None))
    with pytest.raises(ChainError, match="LOOP: a2 below b"):
        list(resolve(ImageRef("a1"), table))
    assert len(table.read_files) == 2, "a file was read twice"


def test_a_loop_of_any_length_ends() -> None:
    for length in (1, 2, MAX_DEPTH - 1, MAX_DEPTH):
        table = Table(links(**{str(n): str((n + 1) % length) for n in range(length)}))
        with pytest.raises(ChainError, match=f"LOOP: 0 below {length - 1}$"):
            list(resolve(ImageRef("0"), table))


@given(st.integers(0, 6), st.integers(1, 6), st.data())
def test_a_loop_is_told_once_wherever_it_is_entered(before: int, length: int, data: st.DataObject) -> None:
    """before: images above the loop."""
    after = {n: n + 1 for n in range(before + length - 1)} | {before + length - 1: before}
    table = Table(links(**{str(n): str(below) for n, below in after.items()}))
    start = data.draw(st.integers(0, before + length - 1))
    with pytest.raises(ChainError) as caught:
        list(resolve(ImageRef(str(start)), table))
    assert caught.value.about == ("loop", (0, before))


def test_a_chain_has_256_links_at_most() -> None:
    table = Table(links(**{str(n): str(n - 1) if n else None for n in range(MAX_DEPTH + 1)}))
    assert len(list(resolve(ImageRef(str(MAX_DEPTH - 1)), table))) == MAX_DEPTH
    table.read_files.clear()
    with pytest.raises(ChainError, match="TOO_DEEP: 0 below 1"):
        list(resolve(ImageRef(str(MAX_DEPTH)), table))
    assert len(table.read_files) == MAX_DEPTH, "the file that is too deep was read"


# stated, the file's name, whether it starts as a qcow2, whether its name counts; what it is read as
FORMATS: list[tuple[str | None, str, bool, bool, str | Fault]] = [
    (None, "a.qcow2", True, True, "qcow2"),
    (None, "a.img", True, True, "qcow2"),
    (None, "a.img", False, True, "raw"),
    (None, "a.raw", False, True, "raw"),
    (None, "a.qcow2", False, True, Fault.NO_IMAGE),
    (None, "a.qcow2", True, False, "qcow2"),
    (None, "a.img", False, False, Fault.NOT_STATED),
    (None, "a", False, False, Fault.NOT_STATED),
    ("qcow2", "a", True, False, "qcow2"),
    ("qcow2", "a.img", False, False, Fault.NO_IMAGE),
    ("qcow2", "a.img", False, True, "raw"),
    ("qcow2", "a", False, True, Fault.NO_IMAGE),
    ("qed", "a", True, False, Fault.OTHER_FORMAT),
    ("qed", "a.img", False, True, Fault.OTHER_FORMAT),
    ("", "a", True, False, Fault.OTHER_FORMAT),
]


@pytest.mark.parametrize(("stated", "name", "is_qcow2", "by_name", "wanted"), FORMATS)
def test_the_format_that_a_file_is_read_in(
    stated: str | None, name: str, is_qcow2: bool, by_name: bool, wanted: str | Fault
) -> None:
    ref, refused = ImageRef(name, stated=stated), list[Fault]()

    def refusal(fault: Fault) -> VdifsError:
        refused.append(fault)
        return VdifsError("refused")

    def probe() -> ImageFormat | None:
        return QCOW2 if is_qcow2 else None

    if isinstance(wanted, Fault):
        with pytest.raises(VdifsError, match="refused"):
            read_as(ref, probe, refusal, by_name=by_name)
        assert refused == [wanted]
    else:
        found = read_as(ref, probe, refusal, by_name=by_name)
        assert (found.name, refused) == (wanted, [])


@pytest.mark.parametrize("by_name", [False, True])
def test_a_file_that_is_stated_to_be_raw_is_not_looked_at(by_name: bool) -> None:
    def probe() -> ImageFormat:
        raise AssertionError("the bytes of a raw image chose how it is read")

    assert read_as(ImageRef("a.qcow2", stated="raw"), probe, lambda _: VdifsError("refused"), by_name=by_name) is RAW


@pytest.mark.parametrize(
    ("fault", "kind", "code", "message"),
    [
        (Fault.LOOP, ChainError, 40, "a: it is in its own chain: rebase one of the images that name it"),
        (Fault.TOO_DEEP, ChainError, 40, "a: the chain above it has 256 images already: commit some"),
        (
            Fault.OTHER_FORMAT,
            UnsupportedError,
            95,
            "a: its overlay states the format 'qed': only qcow2, vpc, vhdx, vmdk, vdi and raw are",
        ),
        (Fault.NO_IMAGE, FormatError, 5, "a: not a qcow2, VHD, VHDX, VMDK or VDI image"),
        (
            Fault.NOT_STATED,
            PolicyError,
            13,
            "a: its overlay states no format and it is no qcow2, VHD, VHDX, VMDK or VDI image",
        ),
    ],
)
def test_what_is_said_of_a_file(fault: Fault, kind: type[VdifsError], code: int, message: str) -> None:
    error = said_of_file("a", fault, "qed")
    assert (type(error), error.errno) == (kind, code)
    assert str(error).startswith(message)
