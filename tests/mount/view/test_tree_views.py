"""The folders of a tree that `--views` asks for, over a catalog without files."""

from dataclasses import replace
from typing import Any

import pytest

from tests.mount.fakes import FakeCatalog, entry
from tests.mount.view.test_tree import everything, messages
from vdifs.errors import FormatError, UsageError
from vdifs.mount.view import names
from vdifs.mount.view.nodes import Folder, ImageFile
from vdifs.mount.view.tree import Tree
from vdifs.output.view import View

GIB = 1 << 30
CHAIN = (entry("base.raw"), entry("vms/top.qcow2", "base.raw"))


def shown(*views: str, entries: Any = CHAIN) -> Tree:
    return Tree(FakeCatalog(*entries), views=views)


def test_each_view_is_a_folder_and_each_file_in_it_has_its_suffix() -> None:
    assert everything(shown("vhd", "vhd-fixed")) == {
        "vhd/", "vhd/base.raw.vhd", "vhd/vms/", "vhd/vms/top.qcow2.vhd",
        "vhd-fixed/", "vhd-fixed/base.raw.vhd", "vhd-fixed/vms/", "vhd-fixed/vms/top.qcow2.vhd",
        ".vdifs/", ".vdifs/status.json",
    }  # fmt: skip


def test_by_default_there_are_those_that_there_always_were() -> None:
    assert everything(shown(*names.DEFAULT_VIEWS)) == everything(Tree(FakeCatalog(*CHAIN)))
    assert list(Tree(FakeCatalog()).children(Folder("")) or ()) == ["full", "delta", "raw", ".vdifs"]


@pytest.mark.parametrize("left_out", names.VIEWS)
def test_a_view_that_was_left_out_is_not_there_and_all_others_are_as_they_were(left_out: str) -> None:
    whole, part = shown(*names.VIEWS), shown(*(view for view in names.VIEWS if view != left_out))
    assert part.at(left_out) is None
    wanted = {path for path in everything(whole) if path.partition("/")[0] != left_out}
    assert everything(part) == wanted
    for path in wanted:
        node = whole.at(path.rstrip("/"))
        assert node is not None
        assert part.at(path.rstrip("/")) == node
        assert part.inode(node) == whole.inode(node)
    assert messages(part) == []


def test_the_order_in_which_views_are_given_is_no_matter() -> None:
    one, other = shown("raw", "vhd", "full"), shown("full", "raw", "vhd")
    assert (
        list(one.children(Folder("")) or ())
        == list(other.children(Folder("")) or ())
        == ["full", "raw", "vhd", ".vdifs"]
    )


def test_a_file_has_as_many_links_as_names_that_are_shown() -> None:
    raw_base, full_top = ImageFile("base.raw", view="raw"), ImageFile("vms/top.qcow2")
    for views, links in (
        (names.VIEWS, (2, 2)),
        (("full", "raw"), (1, 1)),
        (("delta",), (1, 1)),
        (("delta", "raw"), (2, 1)),
        (("delta", "full"), (1, 2)),
    ):
        tree = shown(*views)
        assert (tree.links(raw_base), tree.links(full_top)) == links
        assert [len(tree.paths(file)) for file in (raw_base, full_top)] == list(links)
    whole = shown(*names.VIEWS)
    assert whole.links(ImageFile("base.raw", view="vhd")) == whole.links(ImageFile("vms/top.qcow2", "base.raw")) == 1


def test_the_views_of_one_image_have_inode_numbers_of_their_own() -> None:
    tree = shown(*names.VIEWS)
    views: list[View] = ["qcow2", "raw", "vhd", "vhd-fixed", "vmdk"]
    numbers = {tree.inode(ImageFile("base.raw", view=view)) for view in views}
    assert len(numbers) == len(views)
    found = tree.find(tree.inode(ImageFile("base.raw", view="vhd")) or 0)
    assert found == ImageFile("base.raw", view="vhd")
    assert tree.paths(ImageFile("base.raw", view="vhd-fixed")) == ["vhd-fixed/base.raw.vhd"]


def test_names_that_are_taken_or_too_long_are_told_as_those_of_others_are() -> None:
    tree = shown("vhd", entries=(entry("a"), entry("a.vhd/b"), entry("n" * 252)))
    assert tree.at("vhd/a.vhd") == Folder("vhd/a.vhd")
    assert messages(tree) == [
        "vhd/a.vhd: not offered: the name is taken by another image: rename one of them",
        f"vhd/{'n' * 252}.vhd: not offered: the name has over 255 bytes: give the image a shorter one",
    ]
    assert not any(isinstance(problem, UsageError) for problem in tree.problems())


def test_a_disk_that_a_view_cannot_hold_is_not_offered_there_and_the_others_are_told_from_names() -> None:
    large, fits = (
        replace(entry(name), virtual_size=size) for name, size in (("a", 2040 * GIB + 512), ("b", 2040 * GIB))
    )
    tree = shown("full", "vhd", "vhd-fixed", entries=(large, fits))
    assert [path for path in everything(tree) if path.endswith(("/a", "/a.vhd"))] == ["full/a"]
    assert {"vhd/b.vhd", "vhd-fixed/b.vhd"} < everything(tree)
    assert messages(tree) == [
        f"{view}/a.vhd: not offered: a {view} holds disks of 2,040 GiB at most, and this one has 1.99 TiB"
        " (2190433321472 bytes): take it as a qcow2 or raw"
        for view in ("vhd", "vhd-fixed")
    ]
    assert all(isinstance(problem, UsageError) for problem in tree.problems())


def test_an_image_of_which_no_size_is_known_is_listed_as_one_that_cannot_be_served() -> None:
    broken = replace(entry("a", problem=FormatError("a: damaged")), virtual_size=None)
    assert shown("vhd", entries=(broken,)).at("vhd/a.vhd") == ImageFile("a", view="vhd")
