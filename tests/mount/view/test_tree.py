"""The tree of names, over a catalog without files."""

import errno

import pytest

from tests.mount.fakes import FakeCatalog, entry
from vdifs.errors import FormatError, StorageError, UnsupportedError
from vdifs.mount.view.nodes import Folder, ImageFile, StatusFile
from vdifs.mount.view.tree import Tree

WEEK = (entry("base.qcow2"), entry("monday.qcow2", "base.qcow2"), entry("tuesday.qcow2", "monday.qcow2"))


def everything(tree: Tree, folder: Folder = Folder("")) -> set[str]:  # noqa: B008 - frozen
    """Every path of the tree, folders with a slash at the end."""
    found: set[str] = set()
    for name, node in (tree.children(folder) or {}).items():
        path = f"{folder.path}/{name}".lstrip("/")
        if isinstance(node, Folder):
            assert node.path == path
            found |= {path + "/"} | everything(tree, node)
        else:
            found.add(path)
    return found


def messages(tree: Tree) -> list[str]:
    return [str(problem) for problem in tree.problems()]


def test_the_tree_of_the_specification() -> None:
    assert everything(Tree(FakeCatalog(*WEEK))) == {
        "full/",
        "full/base.qcow2",
        "full/monday.qcow2",
        "full/tuesday.qcow2",
        "delta/",
        "delta/base.qcow2/",
        "delta/base.qcow2/base.qcow2",
        "delta/base.qcow2/base.qcow2..base.qcow2",
        "delta/base.qcow2/monday.qcow2",
        "delta/base.qcow2/tuesday.qcow2",
        "delta/monday.qcow2/",
        "delta/monday.qcow2/monday.qcow2",
        "delta/monday.qcow2/monday.qcow2..monday.qcow2",
        "delta/monday.qcow2/tuesday.qcow2",
        "delta/tuesday.qcow2/",
        "delta/tuesday.qcow2/tuesday.qcow2",
        "delta/tuesday.qcow2/tuesday.qcow2..tuesday.qcow2",
        "raw/",
        "raw/base.qcow2.raw",
        "raw/monday.qcow2.raw",
        "raw/tuesday.qcow2.raw",
        ".vdifs/",
        ".vdifs/status.json",
    }


def test_each_name_stands_for_what_it_says() -> None:
    tree = Tree(FakeCatalog(*WEEK))
    assert tree.at("full/tuesday.qcow2") == ImageFile("tuesday.qcow2")
    assert tree.at("delta/base.qcow2/tuesday.qcow2") == ImageFile("tuesday.qcow2", "base.qcow2")
    assert tree.at("delta/base.qcow2/base.qcow2..base.qcow2") == ImageFile("base.qcow2", "base.qcow2")
    assert tree.at("raw/monday.qcow2.raw") == ImageFile("monday.qcow2", view="raw")
    assert tree.at(".vdifs/status.json") == StatusFile()
    assert tree.at("") == Folder("")


@pytest.mark.parametrize(
    "path", ["nothing", "full/nothing", "full/base.qcow2/below", "delta/nothing/base.qcow2", "raw/x"]
)
def test_nothing_stands_at_any_other_path(path: str) -> None:
    assert Tree(FakeCatalog(*WEEK)).at(path) is None


def test_the_base_beside_its_deltas_is_a_hard_link_to_the_full_image() -> None:
    tree = Tree(FakeCatalog(*WEEK))
    assert tree.at("delta/base.qcow2/base.qcow2") == tree.at("full/base.qcow2")
    assert tree.paths(ImageFile("base.qcow2")) == ["full/base.qcow2", "delta/base.qcow2/base.qcow2"]


def test_paths_are_kept_under_each_base() -> None:
    tree = Tree(FakeCatalog(entry("templates/base.qcow2"), entry("vms/a.qcow2", "templates/base.qcow2")))
    assert {path for path in everything(tree) if path.startswith("delta/templates/")} == {
        "delta/templates/",
        "delta/templates/base.qcow2/",
        "delta/templates/base.qcow2/templates/",
        "delta/templates/base.qcow2/templates/base.qcow2",
        "delta/templates/base.qcow2/templates/base.qcow2..base.qcow2",
        "delta/templates/base.qcow2/vms/",
        "delta/templates/base.qcow2/vms/a.qcow2",
    }


def test_a_raw_base_keeps_its_name_and_is_one_inode_with_its_raw_view() -> None:
    tree = Tree(FakeCatalog(entry("x.raw"), entry("top.qcow2", "x.raw")))
    contents = ImageFile("x.raw", view="raw")
    assert tree.at("full/x.raw.qcow2") == ImageFile("x.raw")
    assert tree.at("raw/x.raw.raw") == contents
    assert tree.at("delta/x.raw/x.raw") == contents
    assert tree.paths(contents) == ["raw/x.raw.raw", "delta/x.raw/x.raw"]
    assert tree.at("delta/x.raw/top.qcow2") == ImageFile("top.qcow2", "x.raw")
    assert tree.at("delta/x.raw/x.raw..x.raw") == ImageFile("x.raw", "x.raw")


def test_a_file_that_really_has_a_derived_name_keeps_it() -> None:
    tree = Tree(FakeCatalog(entry("x.raw"), entry("x.raw.qcow2")))
    assert tree.at("full/x.raw.qcow2") == ImageFile("x.raw.qcow2")
    assert tree.paths(ImageFile("x.raw")) == []
    assert messages(tree) == ["full/x.raw.qcow2: not offered: the name is taken by another image: rename one of them"]
    assert tree.at("raw/x.raw.raw") == ImageFile("x.raw", view="raw"), "its other files are served"


def test_an_overlay_named_like_the_base_against_itself_keeps_its_name() -> None:
    tree = Tree(FakeCatalog(entry("b"), entry("b..b", "b")))
    assert tree.at("delta/b/b..b") == ImageFile("b..b", "b")
    assert messages(tree) == ["delta/b/b..b: not offered: the name is taken by another image: rename one of them"]


def test_a_folder_keeps_its_name_before_any_derived_one() -> None:
    tree = Tree(FakeCatalog(entry("a"), entry("a.raw/b")))
    assert tree.at("raw/a.raw") == Folder("raw/a.raw")
    assert tree.at("raw/a.raw/b.raw") == ImageFile("a.raw/b", view="raw")
    assert messages(tree) == ["raw/a.raw: not offered: the name is taken by another image: rename one of them"]


def test_a_derived_name_over_255_bytes_is_not_offered() -> None:
    long = "n" * 252
    tree = Tree(FakeCatalog(entry(long)))
    assert tree.at(f"full/{long}") is not None
    assert tree.children(Folder("raw")) == {}
    assert len(messages(tree)) == 2, "the raw view and the base against itself"
    assert all("over 255 bytes" in message for message in messages(tree))


def test_a_backing_name_over_1023_bytes_is_not_offered() -> None:
    deep = "/".join(["d" * 200] * 5) + "/" + "e" * 30
    tree = Tree(FakeCatalog(entry(f"{deep}/base"), entry("top", f"{deep}/base")))
    assert tree.at(f"delta/{deep}/base/top") is None
    assert "over 1023 bytes" in messages(tree)[0]
    assert tree.at("full/top") is not None


def test_folders_are_sorted() -> None:
    tree = Tree(FakeCatalog(*(entry(name) for name in ("c", "a", "b"))))
    assert list(tree.children(Folder("full")) or ()) == ["a", "b", "c"]


def test_inode_numbers_are_the_same_in_another_tree_of_the_same_state() -> None:
    one, other = Tree(FakeCatalog(*WEEK)), Tree(FakeCatalog(*reversed(WEEK)))
    for path in everything(one):
        node = one.at(path.rstrip("/"))
        assert node is not None
        assert one.inode(node) == other.inode(node)


def test_every_node_has_its_own_inode_number() -> None:
    tree = Tree(FakeCatalog(*WEEK, entry("x.raw")))
    nodes = {tree.at(path.rstrip("/")) for path in everything(tree)}
    assert len({tree.inode(node) for node in nodes if node is not None}) == len(nodes)


def test_a_change_gives_new_numbers_to_the_image_and_to_all_above_it() -> None:
    catalog = FakeCatalog(*WEEK)
    before = Tree(catalog)
    catalog.change("monday.qcow2")
    old = {path: before.inode(ImageFile(path)) for path in catalog.entries}
    assert catalog.scan()
    after = Tree(catalog)
    changed = {path for path in catalog.entries if after.inode(ImageFile(path)) != old[path]}
    assert changed == {"monday.qcow2", "tuesday.qcow2"}
    assert after.inode(Folder("full")) == before.inode(Folder("full"))


def test_options_that_determine_the_bytes_determine_the_number() -> None:
    catalog = FakeCatalog(*WEEK)
    file = ImageFile("base.qcow2")
    assert Tree(catalog, "cluster_size=512").inode(file) != Tree(catalog, "cluster_size=1024").inode(file)


def test_an_image_that_is_not_there_has_no_number() -> None:
    assert Tree(FakeCatalog(*WEEK)).inode(ImageFile("nothing")) is None


def test_any_node_is_found_by_its_number() -> None:
    tree = Tree(FakeCatalog(*WEEK))
    for path in everything(tree):
        node = tree.at(path.rstrip("/"))
        assert node is not None
        inode = tree.inode(node)
        assert inode is not None
        assert tree.find(inode) == node
    assert tree.find(12345) is None


def test_a_broken_image_is_in_the_tree_with_its_problem() -> None:
    problem = UnsupportedError("base.qcow2: encrypted")
    tree = Tree(
        FakeCatalog(entry("base.qcow2", problem=problem), entry("top.qcow2", "base.qcow2"), entry("good.qcow2"))
    )
    for path in ("base.qcow2", "top.qcow2"):
        assert tree.at(f"full/{path}") == ImageFile(path)
        source = tree.source(path)
        assert source is not None
        assert source.problem is problem
        assert source.access.mode == 0
    good = tree.source("good.qcow2")
    assert good is not None
    assert good.problem is None


def test_a_repaired_image_gets_another_number() -> None:
    catalog = FakeCatalog(entry("a", problem=FormatError("a: damaged")))
    before = Tree(catalog).inode(ImageFile("a"))
    catalog.put(entry("a"))
    catalog.scan()
    assert Tree(catalog).inode(ImageFile("a")) != before


def test_names_that_are_no_utf8_are_served() -> None:
    tree = Tree(FakeCatalog(entry("caf\udce9.qcow2")))
    assert tree.at("full/caf\udce9.qcow2") == ImageFile("caf\udce9.qcow2")
    assert tree.inode(ImageFile("caf\udce9.qcow2")) is not None


def test_many_bases_are_not_all_kept() -> None:
    tree = Tree(FakeCatalog(*(entry(f"{number}") for number in range(1000))))
    for number in range(1000):
        assert tree.at(f"delta/{number}/{number}") == ImageFile(f"{number}")
    assert len(tree._bases) == 64


def test_what_was_never_seen_and_is_in_trouble_leaves_a_mark() -> None:
    """A folder that cannot be looked into is there; what may be an image or not is missed where it stands."""
    catalog, trouble = FakeCatalog(entry("a/b.qcow2"), entry("c.qcow2")), StorageError("no answer", errno=errno.EIO)
    catalog.troubles = {"a/shut": trouble, "a/failing.qcow2": trouble, "@trust/a": trouble, "far/away": trouble}
    catalog.shut = frozenset({"a/shut", "far/away"})
    tree = Tree(catalog)
    for top in ("full", "raw", "delta", "delta/c.qcow2"):
        for path in ("a/shut", "far/away"):
            folder = tree.at(f"{top}/{path}")
            assert isinstance(folder, Folder)
            assert tree.trouble(folder) is trouble
    assert {path: tree.trouble(Folder(path)) for path in ("full", "full/a", "raw/a", "full/far")} == {
        "full": None,
        "full/a": trouble,
        "raw/a": trouble,
        "full/far": None,
    }
