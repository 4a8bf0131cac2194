"""What `--refused hide` leaves out: images that are refused, not what a failing disk keeps from being read."""

import errno

import pytest

from tests.mount.fakes import FakeCatalog, entry
from vdifs.chain.links import cannot_be_opened
from vdifs.errors import ChainError, FormatError, InUseError, StorageError, UnsupportedError, VdifsError
from vdifs.mount.serving import failures as failures_module
from vdifs.mount.serving.failures import Failures
from vdifs.mount.serving.hidden_nodes import HiddenNodes
from vdifs.mount.view.nodes import Folder, ImageFile, Node, Sidecar, StatusFile
from vdifs.mount.view.tree import Tree


def hidden(catalog: FakeCatalog, failures: Failures | None = None) -> set[str]:
    """Return the paths that are left out, not those below a folder that is."""
    tree = Tree(catalog, sidecars=["info"])
    hidden_nodes = HiddenNodes(tree, failures or Failures())
    found: set[str] = set()

    def look(folder: Folder) -> None:
        for name, node in (tree.children(folder) or {}).items():
            if hidden_nodes.hides(node):
                found.add(f"{folder.path}/{name}".lstrip("/"))
            elif isinstance(node, Folder):
                look(node)

    look(Folder(""))
    return found


def inode(catalog: FakeCatalog, node: Node) -> int:
    number = Tree(catalog).inode(node)
    assert number is not None
    return number


@pytest.mark.parametrize(
    "error",
    [
        FormatError("a: damaged"),
        UnsupportedError("a: encrypted"),
        InUseError("a: is written"),
        StorageError("a: may not be read", errno=errno.EACCES),
        cannot_be_opened("a", "backing file", StorageError("b: is not there", errno=errno.ENOENT)),
    ],
)
def test_what_is_wrong_with_an_image_hides_all_that_is_made_from_it(error: VdifsError) -> None:
    catalog = FakeCatalog(entry("vms/a", problem=error), entry("vms/b", "vms/a"), entry("good"))
    assert hidden(catalog) == {"full/vms", "raw/vms", "delta/vms", ".vdifs/info/vms"}


@pytest.mark.parametrize(
    "error",
    [
        StorageError("a: the disk failed"),
        StorageError("a: too many files", errno=errno.EMFILE),
        cannot_be_opened("a", "backing file", StorageError("b: the disk failed", errno=errno.EIO)),
    ],
)
def test_what_a_failing_disk_keeps_from_being_read_stays(error: VdifsError) -> None:
    catalog = FakeCatalog(entry("a", problem=error), entry("b", "a"))
    assert hidden(catalog) == set()
    failures = Failures()
    good = FakeCatalog(entry("a"))
    failures.add(inode(good, ImageFile("a")), ImageFile("a"), error)
    assert hidden(good, failures) == set()


def test_what_lies_in_a_folder_in_trouble_stays() -> None:
    trouble = StorageError("vms: it has gone", errno=errno.ENOENT)
    catalog = FakeCatalog(entry("vms/a", problem=trouble), entry("b", "vms/a"))
    assert hidden(catalog) != set()
    catalog.troubles = {"vms": trouble}
    assert hidden(catalog) == set()


def test_an_overlay_that_is_refused_takes_nothing_else_away() -> None:
    catalog = FakeCatalog(entry("a"), entry("b", "a", problem=FormatError("b: damaged")))
    catalog.overlays = lambda path: ("b",) if path == "a" else ()  # type: ignore[method-assign]
    assert hidden(catalog) == {"full/b", "raw/b.raw", "delta/a/b", "delta/b", ".vdifs/info/b.json"}


def test_the_folders_of_the_mount_itself_stay() -> None:
    catalog = FakeCatalog(entry("a", problem=FormatError("a: damaged")))
    assert hidden(catalog) == {"full/a", "raw/a.raw", "delta/a", ".vdifs/info/a.json"}
    hidden_nodes = HiddenNodes(Tree(catalog), Failures())
    assert not hidden_nodes.hides(StatusFile())
    assert not hidden_nodes.hides(Folder(""))
    assert hidden_nodes.hides(Sidecar("info", "a"))


def test_damage_that_opening_shows_hides_the_image() -> None:
    catalog, failures = FakeCatalog(entry("a"), entry("b", "a")), Failures()
    failures.add(inode(catalog, ImageFile("b")), ImageFile("b"), FormatError("b: damaged"))
    assert hidden(catalog, failures) == {"full/b", "raw/b.raw", "delta/a/b", "delta/b", ".vdifs/info/b.json"}
    failures.remove(inode(catalog, ImageFile("b")))
    assert hidden(catalog, failures) == set()


def test_damage_that_no_user_has_met_hides_the_image_too() -> None:
    catalog, failures = FakeCatalog(entry("a")), Failures()
    for _ in range(2):
        failures.note(inode(catalog, ImageFile("a")), ImageFile("a"), FormatError("a: damaged"))
    assert hidden(catalog, failures) == {"full/a", "raw/a.raw", "delta/a", ".vdifs/info/a.json"}
    failures.remove(inode(catalog, ImageFile("a")))
    assert hidden(catalog, failures) == set()


def test_a_delta_that_cannot_be_made_is_hidden_alone() -> None:
    catalog, failures = FakeCatalog(entry("a"), entry("b", "a")), Failures()
    delta = ImageFile("b", "a")
    failures.add(inode(catalog, delta), delta, ChainError("b: its backing name is too long"))
    assert hidden(catalog, failures) == {"delta/a/b"}


def test_what_was_in_use_is_due_after_a_while_and_hidden_until_it_could_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = Failures()
    failures.add(5, ImageFile("a"), InUseError("a: is written"))
    failures.add(6, ImageFile("b"), FormatError("b: damaged"))
    assert failures.due() == []
    monkeypatch.setattr(failures_module, "RETRY_S", 0.0)
    assert failures.due() == [5], "bad bytes stay bad"
    assert failures.refuses(5)
    assert failures.refuses_image("a")
    failures.keep(lambda inode, _: inode == 6)
    assert not failures.refuses_image("a")
    assert failures.refuses_image("b")
    assert len(failures) == 1


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOTDIR])
def test_what_was_found_and_cannot_be_opened_stays(number: int) -> None:
    """Its folder was taken away since the last search, say: the next one tells."""
    catalog, failures = FakeCatalog(entry("a"), entry("b", "a")), Failures()
    gone = StorageError("a: cannot be opened", errno=number)
    failures.add(inode(catalog, ImageFile("a")), ImageFile("a"), gone)
    failures.add(inode(catalog, ImageFile("b")), ImageFile("b"), cannot_be_opened("b", "backing file", gone))
    assert hidden(catalog, failures) == set()
