"""Inode numbers and the table of those that the kernel holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.errors import VdifsError
from vdifs.mount.view.attributes import FileSize
from vdifs.mount.view.inodes import ROOT, InodeTable, inode_number
from vdifs.mount.view.nodes import Folder, ImageFile

A, B = ImageFile("a"), ImageFile("b")


@given(st.lists(st.one_of(st.text(), st.binary())))
def test_a_number_is_positive_and_no_special_one(parts: list[str | bytes]) -> None:
    assert ROOT < inode_number(*parts) < 1 << 63


def test_parts_do_not_run_into_each_other() -> None:
    assert inode_number("ab", "c") != inode_number("a", "bc")


def test_numbers_do_not_change_between_versions_by_accident() -> None:
    assert inode_number("qcow2", "a.qcow2", "", b"", b"generation", "cluster_size=None") == 0x52318675F6B7CA13


def test_an_inode_is_known_until_it_is_forgotten_as_often_as_it_was_handed_out() -> None:
    table = InodeTable()
    table.hand_out(7, A)
    table.hand_out(7, A)
    known = table.get(7)
    assert known is not None
    known.file_size = FileSize(1, 1)
    table.forget(7, 1)
    assert table.get(7) is known
    table.forget(7, 1)
    assert table.get(7) is None


def test_the_root_is_never_forgotten() -> None:
    table = InodeTable()
    table.forget(ROOT, 99)
    root = table.get(ROOT)
    assert root is not None
    assert root.node == Folder("")


def test_forgetting_what_is_not_known_is_harmless() -> None:
    InodeTable().forget(5, 1)


def test_two_files_never_share_a_number() -> None:
    table = InodeTable()
    table.hand_out(7, A)
    with pytest.raises(VdifsError, match="same inode number"):
        table.hand_out(7, B)
