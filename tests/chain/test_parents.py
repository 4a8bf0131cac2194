"""Parents that are known by identity: which file is taken for one, and that no other is, opened or listed."""

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import linked
from tests.support.agreement import contents, refused
from tests.support.vdi import Name, Vdi
from vdifs.catalog.catalog import Catalog
from vdifs.chain.links import ImageRef
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, PolicyError, StorageError
from vdifs.formats.registry import FORMATS
from vdifs.report.info import describe_chain

BLOCK = 64 << 10
BASE = bytes([1]) * BLOCK + bytes([2]) * BLOCK
ABOVE = bytes(BLOCK) + bytes([3]) * BLOCK
WHOLE = BASE[:BLOCK] + ABOVE[BLOCK:]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, linked.LINKED.name, linked.LINKED)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "vms").mkdir(parents=True)
    (source / "bases").mkdir()
    return source


def opened(source: Path, path: str) -> str:
    """Return the PATH of the parent of an image, as opening finds it."""
    with Policy(os.fspath(source)) as policy, Chain.open(policy, path) as chain:
        return chain.members[1].path


def listed(source: Path, path: str) -> str:
    """Return the same as a search finds it."""
    with closing(Catalog(os.fspath(source))) as catalog:
        catalog.scan()
        return catalog.chain(path)[1].path


def told(source: Path, path: str) -> str:
    """Return the same as `vdifs info --backing-chain` finds it."""
    with Policy(os.fspath(source)) as policy:
        _, below, *_ = describe_chain(policy, ImageRef(path), os.fspath(source / path))
    return os.path.relpath(below.name, source)


Way = Callable[[Path, str], str]
WAYS: list[Way] = [opened, listed, told]


@pytest.fixture(params=WAYS, ids=["opened", "listed", "told"])
def way(request: pytest.FixtureRequest) -> Way:
    way: Way = request.param
    return way


def test_the_first_name_whose_file_has_the_identity_is_taken(source: Path, way: Way) -> None:
    linked.write(source / "vms/base.linked", BASE, "another")
    linked.write(source / "bases/base.linked", BASE, "wanted")
    linked.write(source / "bases/copy.linked", BASE, "wanted")
    names = ["gone.linked", "base.linked", "../bases/base.linked", "../bases/copy.linked"]
    linked.write(source / "vms/top.linked", ABOVE, "top", names=names, identities=["other", "wanted"])
    assert way(source, "vms/top.linked") == "bases/base.linked"


def test_names_that_lead_out_of_the_source_are_never_looked_up(source: Path, way: Way) -> None:
    linked.write(source.parent / "secret.linked", BASE, "wanted")
    (source / "vms/link.linked").symlink_to(source.parent / "secret.linked")
    names = ["../../secret.linked", os.fspath(source.parent / "secret.linked"), "link.linked", ".", "..", "", "a\nb"]
    linked.write(source / "vms/top.linked", ABOVE, "top", names=names, identities=["wanted"], said="s")
    with refused(ChainError, errno.EIO, r"its parent 's' with the identity wanted is not found: tried "):
        way(source, "vms/top.linked")


def test_of_names_that_are_not_there_the_only_file_that_differs_in_case_is_taken(source: Path, way: Way) -> None:
    linked.write(source / "vms/Base.LINKED", BASE, "wanted")
    linked.write(source / "vms/top.linked", ABOVE, "top", names=["base.linked"], identities=["wanted"])
    assert way(source, "vms/top.linked") == "vms/Base.LINKED"
    linked.write(source / "vms/BASE.linked", BASE, "wanted")
    with pytest.raises(ChainError, match=r"tried vms/base\.linked \(it is not there\)"):
        way(source, "vms/top.linked")


def test_a_parent_that_is_another_is_none(source: Path, way: Way) -> None:
    linked.write(source / "vms/base.linked", BASE, "another")
    linked.write(source / "vms/top.linked", ABOVE, "top", names=["base.linked"], identities=["wanted"])
    with pytest.raises(ChainError, match=r"vms/top.linked: .*tried vms/base\.linked \(it has another identity\): put"):
        way(source, "vms/top.linked")


def test_a_parent_of_another_format_is_none(source: Path, way: Way) -> None:
    (source / "vms/base.raw").write_bytes(BASE)
    (source / "vms/base").write_bytes(BASE)
    linked.write(source / "vms/top.linked", ABOVE, "top", names=["base.raw", "base"], identities=["wanted"])
    with pytest.raises(ChainError, match="is not found"):
        way(source, "vms/top.linked")


def test_a_raw_parent_is_the_first_file_that_is_there(source: Path, way: Way) -> None:
    linked.write(source / "vms/base", BASE, "stated to be raw, and so it is read")
    names = ["gone", "base"]
    linked.write(source / "vms/top.linked", ABOVE, "top", names=names, format="raw")
    assert way(source, "vms/top.linked") == "vms/base"


def test_one_without_names_is_found_by_identity_the_nearest_first(source: Path, way: Way) -> None:
    (source / "vms/snapshots").mkdir()
    linked.write(source / "bases/base.linked", BASE, "wanted")
    linked.write(source / "vms/other.linked", BASE, "another")
    linked.write(source / "vms/snapshots/top.linked", ABOVE, "top", names=[], identities=["wanted"])
    assert way(source, "vms/snapshots/top.linked") == "bases/base.linked"
    linked.write(source / "vms/base.linked", BASE, "wanted")
    assert way(source, "vms/snapshots/top.linked") == "vms/base.linked"
    linked.write(source / "vms/copy.linked", BASE, "wanted")
    with pytest.raises(ChainError, match=r"vms/base\.linked and vms/copy\.linked both have its identity"):
        way(source, "vms/snapshots/top.linked")


def vdi_image(path: Path, mark: int, uuids: Name, parent: Name | None = None) -> None:
    Vdi(1 << 20, name=uuids, parent=parent, blocks={0: bytes([mark]) * (1 << 20)} if parent is None else {}).write(path)


def test_of_two_states_of_one_image_neither_is_taken_where_nothing_tells_which(source: Path, way: Way) -> None:
    now, before = Name(UUID(int=1), UUID(int=2)), Name(UUID(int=1), UUID(int=3))
    (source / "vms/snapshots").mkdir()
    vdi_image(source / "vms/base.vdi", 1, now)
    vdi_image(source / "vms/snapshots/any.vdi", 0, Name(UUID(int=4)), Name(UUID(int=1)))
    vdi_image(source / "vms/snapshots/of_before.vdi", 0, Name(UUID(int=5)), before)
    assert way(source, "vms/snapshots/any.vdi") == "vms/base.vdi"
    vdi_image(source / "bases/copy.vdi", 1, now)
    assert way(source, "vms/snapshots/any.vdi") == "vms/base.vdi"
    vdi_image(source / "bases/before.vdi", 2, before)
    assert way(source, "vms/snapshots/of_before.vdi") == "bases/before.vdi"
    with pytest.raises(ChainError, match=r"vms/base\.vdi and bases/before\.vdi both have its identity: leave the one"):
        way(source, "vms/snapshots/any.vdi")


def test_a_raw_parent_without_a_name_is_none(source: Path, way: Way) -> None:
    (source / "vms/disk").write_bytes(BASE)
    linked.write(source / "vms/.top.linked", ABOVE, "top", names=[], format="raw")
    with pytest.raises((ChainError, StorageError)):
        way(source, "vms/.top.linked")


def test_one_without_names_and_without_a_file_is_refused(source: Path, way: Way) -> None:
    linked.write(source / "vms/top.linked", ABOVE, "top", names=[], identities=["wanted"])
    with pytest.raises(ChainError, match=r"with the identity wanted is not found: no image of the source has it"):
        way(source, "vms/top.linked")


def test_a_chain_that_comes_round_is_refused(source: Path, way: Way) -> None:
    linked.write(source / "a.linked", ABOVE, "a", names=["b.linked"], identities=["b"])
    linked.write(source / "b.linked", ABOVE, "b", names=[], identities=["a"])
    with refused(ChainError, errno.ELOOP, "it is in its own chain"):
        way(source, "a.linked")


def test_a_parent_of_another_owner_must_be_readable_for_all(source: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    linked.write(source / "base.linked", BASE, "wanted")
    linked.write(source / "top.linked", ABOVE, "top", names=["base.linked"], identities=["wanted"])
    os.chown(source / "top.linked", 4711, 4711)
    (source / "base.linked").chmod(0o600)
    for way in (opened, listed):
        with refused(PolicyError, errno.EACCES, "to user 0"):
            way(source, "top.linked")


def test_what_lies_below_shows_through(source: Path) -> None:
    linked.write(source / "vms/base.linked", BASE, "wanted")
    linked.write(source / "vms/top.linked", ABOVE, "top", names=["base.linked"], identities=["wanted"])
    assert contents(source / "vms/top.linked") == WHOLE


def test_a_parent_that_is_replaced_and_one_that_comes_back_are_noticed(source: Path) -> None:
    base, top = source / "vms/base.linked", source / "vms/top.linked"
    linked.write(top, ABOVE, "top", names=["base.linked"], identities=["wanted"])
    linked.write(source / "vms/above.linked", ABOVE, "above", names=[], identities=["top"])
    with closing(Catalog(os.fspath(source))) as catalog:
        for identity in (None, "wanted", "another", "wanted"):
            base.unlink(missing_ok=True)
            if identity is not None:
                linked.write(base, BASE, identity)
            assert catalog.scan()
            if identity == "wanted":
                chain = [entry.path for entry in catalog.chain("vms/above.linked")]
                assert chain == ["vms/above.linked", "vms/top.linked", "vms/base.linked"]
                assert catalog.overlays("vms/base.linked") == ("vms/above.linked", "vms/top.linked")
            else:
                with pytest.raises(ChainError, match=r"vms/top\.linked: its parent"):
                    catalog.chain("vms/above.linked")
            assert not catalog.scan()


def test_a_hidden_parent_is_an_image_of_the_catalog(source: Path) -> None:
    linked.write(source / ".base.linked", BASE, "wanted")
    linked.write(source / ".other.linked", BASE, "another")
    names = [".other.linked", ".base.linked"]
    linked.write(source / "top.linked", ABOVE, "top", names=names, identities=["wanted"])
    with closing(Catalog(os.fspath(source))) as catalog:
        for _ in range(2):
            catalog.scan()
            assert sorted(catalog.entries) == [".base.linked", "top.linked"]
            assert [entry.path for entry in catalog.chain("top.linked")] == ["top.linked", ".base.linked"]


def test_of_a_single_image_the_nameless_parents_are_found_in_its_folder(source: Path) -> None:
    linked.write(source / "base.linked", BASE, "wanted")
    linked.write(source / "other.linked", BASE, "another")
    linked.write(source / "middle.linked", ABOVE, "middle", names=[], identities=["wanted"])
    linked.write(source / "top.linked", ABOVE, "top", names=[], identities=["middle"])
    with closing(Catalog(os.fspath(source / "top.linked"))) as catalog:
        for _ in range(2):
            catalog.scan()
            chain = [entry.path for entry in catalog.chain("top.linked")]
            assert chain == ["top.linked", "middle.linked", "base.linked"]
            assert sorted(catalog.entries) == sorted(chain)
