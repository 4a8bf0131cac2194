"""Whose base an overlay may use: its owner's own, or one that every user may read (docs/reliability.md)."""

import errno
import os
from pathlib import Path

import pytest

from tests.catalog.test_catalog import in_catalog, scanned, when_opened
from tests.conftest import require_tool
from tests.support.builder import make, write_blank
from tests.support.units import MIB
from vdifs.catalog.catalog import Catalog
from vdifs.chain.access import Permission
from vdifs.chain.ownership import check_owner, folders_below_root
from vdifs.chain.policy import Policy
from vdifs.errors import PolicyError, StorageError
from vdifs.report.audit import audit

ALICE, BOB = 4711, 4712
REFUSED = PolicyError, errno.EACCES


def check(owner: int, *permissions: Permission) -> None:
    check_owner("top", owner, "backing file", "base", permissions)


@pytest.mark.parametrize(
    "permissions",
    [
        [Permission(0o111, BOB, 0)],
        [Permission(0o100, ALICE, 0)],
        [Permission(0o000, ALICE, 0), Permission(0o100, BOB, 0)],
        [Permission(0o111, 0, 0), Permission(0o111, BOB, 0)],
        [Permission(0o011, 0, 0)],
    ],
    ids=["for everybody", "her own", "her own, below his folder", "in a folder for everybody", "but its owner"],
)
def test_alice_may_use_what_is_hers_or_everybodys(permissions: list[Permission]) -> None:
    check(ALICE, *permissions)


@pytest.mark.parametrize(
    "permissions",
    [
        [Permission(0o100, 0, 0)],
        [Permission(0o110, 0, ALICE)],
        [Permission(0o101, 0, 0)],
        [Permission(0o111, 0, 0), Permission(0o110, 0, 0)],
        [Permission(0o111, BOB, 0), Permission(0o111, 0, 0), Permission(0o100, BOB, 0)],
    ],
    ids=["private to root", "for a group", "for all but a group", "in a folder for a group", "in a private folder"],
)
def test_alice_may_not_use_what_others_keep_from_somebody_and_root_may(permissions: list[Permission]) -> None:
    with pytest.raises(PolicyError, match="top: it belongs to user 4711, and its backing file base to user") as caught:
        check(ALICE, *permissions)
    assert caught.value.errno == errno.EACCES
    check(0, *permissions)


def test_a_folder_that_has_gone_is_an_error_with_the_name_of_the_file(tmp_path: Path) -> None:
    with Policy(os.fspath(tmp_path)) as policy, pytest.raises(StorageError, match="gone/image: No such file"):
        folders_below_root(policy, "gone/image")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """top.qcow2 of Alice on base.qcow2 of root, both beneath folders that only root may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    source = tmp_path.resolve() / "source"
    (source / "private").mkdir(parents=True)
    (source / "private").chmod(0o700)
    source.parent.chmod(0o700)
    write_blank(source / "base.qcow2")
    write_blank(source / "top.qcow2", "base.qcow2", "qcow2")
    (source / "base.qcow2").chmod(0o644)
    os.chown(source / "top.qcow2", ALICE, ALICE)
    return source


def verdict(source: Path, path: str = "top.qcow2", trusted: tuple[Path, ...] = ()) -> tuple[object, int]:
    """Return the class of the error and its errno, which the catalog and opening agree on."""
    with scanned(source, trusted=trusted) as catalog:
        return agreed(catalog, path)


def agreed(catalog: Catalog, path: str) -> tuple[object, int]:
    found = in_catalog(catalog, path)
    assert found == when_opened(catalog, path)
    return found[1:]


def test_a_base_that_everybody_may_read_is_used(source: Path) -> None:
    assert verdict(source) == (None, 0)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_another_s_private_base_is_refused_until_it_is_hers(source: Path, mode: int) -> None:
    (source / "base.qcow2").chmod(mode)
    assert verdict(source) == REFUSED
    os.chown(source / "base.qcow2", ALICE, ALICE)
    assert verdict(source) == (None, 0)
    os.chown(source / "base.qcow2", BOB, BOB)
    assert verdict(source) == REFUSED
    os.chown(source / "top.qcow2", 0, 0)
    assert verdict(source) == (None, 0)


def test_a_scan_sees_a_base_become_private(source: Path) -> None:
    with scanned(source) as catalog:
        assert agreed(catalog, "top.qcow2") == (None, 0)
        (source / "base.qcow2").chmod(0o600)
        assert catalog.scan()
        assert agreed(catalog, "top.qcow2") == REFUSED
        assert catalog.overlays("base.qcow2") == ("top.qcow2",), "or a mirror would delete the copies of its deltas"


def test_a_private_folder_in_the_source_keeps_its_images_from_overlays_outside(source: Path) -> None:
    os.rename(source / "base.qcow2", source / "private" / "base.qcow2")
    write_blank(source / "top.qcow2", "private/base.qcow2", "qcow2")
    os.chown(source / "top.qcow2", ALICE, ALICE)
    assert verdict(source) == REFUSED
    (source / "private").chmod(0o755)
    assert verdict(source) == (None, 0)


def test_a_trusted_directory_was_named_by_the_user_and_the_files_in_it_count_by_themselves(
    source: Path, tmp_path: Path
) -> None:
    golden = tmp_path.resolve() / "golden"
    golden.mkdir(mode=0o700)
    os.rename(source / "base.qcow2", golden / "base.qcow2")
    write_blank(source / "top.qcow2", f"{golden}/base.qcow2", "qcow2")
    os.chown(source / "top.qcow2", ALICE, ALICE)
    assert verdict(source, trusted=(golden,)) == (None, 0)
    (golden / "base.qcow2").chmod(0o600)
    assert verdict(source, trusted=(golden,)) == REFUSED


def test_a_hard_link_to_a_secret_of_root_is_of_no_use(source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_bytes(bytes(512))
    secret.chmod(0o600)
    os.link(secret, source / "mine")
    write_blank(source / "top.qcow2", "mine", "raw")
    os.chown(source / "top.qcow2", ALICE, ALICE)
    assert verdict(source) == REFUSED
    with scanned(source) as catalog:
        (problem,) = audit(catalog.policy, "top.qcow2")
    assert (problem.path, problem.kind) == ("top.qcow2", "not-trusted")
    assert "mine" in problem.message


def test_each_overlay_answers_for_the_base_that_it_names(source: Path) -> None:
    """Top of Alice <- middle of root <- base, private to root: it was root who chose the base."""
    (source / "base.qcow2").chmod(0o600)
    write_blank(source / "middle.qcow2", "base.qcow2", "qcow2")
    (source / "middle.qcow2").chmod(0o644)
    write_blank(source / "top.qcow2", "middle.qcow2", "qcow2")
    os.chown(source / "top.qcow2", ALICE, ALICE)
    assert verdict(source) == (None, 0)
    with scanned(source) as catalog:
        assert catalog.access("top.qcow2").mode & 0o444 == 0, "and yet only root may read what is made of it"
    os.chown(source / "middle.qcow2", BOB, BOB)
    assert verdict(source) == verdict(source, "middle.qcow2") == REFUSED


def test_a_data_file_is_refused_as_a_base_would_be(source: Path) -> None:
    require_tool("qemu-img")
    make(source / "split.qcow2", MIB, data_file=source / "split.data")
    (source / "split.data").chmod(0o600)
    assert verdict(source, "split.qcow2") == (None, 0)
    os.chown(source / "split.qcow2", ALICE, ALICE)
    assert verdict(source, "split.qcow2") == REFUSED
    (source / "split.data").chmod(0o644)
    assert verdict(source, "split.qcow2") == (None, 0)
