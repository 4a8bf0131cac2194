"""No user reads through the mount what he could not in the sources (docs/specification.md 5.6): a model of all."""

import os
import struct
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, combinations, product
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.catalog.test_catalog import scanned
from tests.support.builder import write_blank
from vdifs.catalog.walk import Filter, Seen, walk
from vdifs.chain.access import Access, Permission, folders_above, intersection, to_folder
from vdifs.chain.roots import Root

USERS = GROUPS = range(3)


@dataclass(frozen=True)
class Person:
    """An ordinary user with all groups he is in."""

    uid: int
    groups: frozenset[int]

    def may(self, mode: int, uid: int, gid: int) -> bool:
        """Tell whether bits of the form 0o111 allow him, by the first class he is in, as Linux decides it."""
        if self.uid == uid:
            return bool(mode & 0o100)
        if gid in self.groups:
            return bool(mode & 0o010)
        return bool(mode & 0o001)


def subsets(items: Iterable[int]) -> Iterable[tuple[int, ...]]:
    known = list(items)
    return chain.from_iterable(combinations(known, count) for count in range(len(known) + 1))


EVERYBODY = [Person(uid, frozenset(groups)) for uid, groups in product(USERS, subsets(GROUPS))]

modes = st.tuples(st.booleans(), st.booleans(), st.booleans()).map(lambda ugo: 0o100 * ugo[0] + 0o010 * ugo[1] + ugo[2])
permissions = st.builds(Permission, modes, st.sampled_from(USERS), st.sampled_from(GROUPS))
chains = st.lists(permissions, min_size=1, max_size=5)


@given(chains)
@example([Permission(0o110, 0, 0), Permission(0o110, 1, 1)])  # 0640 alice on a base 0640 root:kvm
@example([Permission(0o111, 0, 0), Permission(0o100, 0, 0)])  # a 0644 image below a 0700 folder
def test_whoever_may_read_the_synthetic_file_may_read_every_source(items: list[Permission]) -> None:
    mode, uid, gid = intersection(items, items[0].uid, items[0].gid)
    for person in EVERYBODY:
        if person.may(mode >> 2, uid, gid):
            assert all(person.may(*item[:3]) for item in items), person


@given(chains)
def test_a_class_of_persons_may_read_if_each_of_them_may_read_every_source(items: list[Permission]) -> None:
    uid, gid = items[0].uid, items[0].gid
    allowed = [person for person in EVERYBODY if all(person.may(*item[:3]) for item in items)]
    user = all(p in allowed for p in EVERYBODY if p.uid == uid)
    group = all(p in allowed for p in EVERYBODY if p.uid != uid and gid in p.groups)
    other = all(p in allowed for p in EVERYBODY if p.uid != uid and gid not in p.groups)
    assert intersection(items, uid, gid) == Access(0o400 * user | 0o040 * group | 0o004 * other, uid, gid)


@given(chains, st.randoms())
def test_the_order_of_the_sources_does_not_matter(items: list[Permission], random: Random) -> None:
    mixed = random.sample(items, len(items))
    assert intersection(items, 1, 2) == intersection(mixed, 1, 2)


@pytest.mark.parametrize(
    ("items", "mode"),
    [
        ([Permission(0o111, 0, 0)], 0o444),
        ([Permission(0o110, 1, 1), Permission(0o110, 0, 2)], 0o000),
        ([Permission(0o110, 1, 1), Permission(0o110, 1, 1)], 0o440),
        ([Permission(0o110, 1, 1), Permission(0o111, 0, 0)], 0o440),
        ([Permission(0o111, 1, 1), Permission(0o100, 0, 0)], 0o000),
        ([Permission(0o111, 1, 1), Permission(0o100, 1, 0)], 0o400),
        ([Permission(0o011, 1, 1)], 0o044),
    ],
    ids=[
        "everybody",
        "another owner's private base",
        "own private base",
        "public base",
        "another's private folder",
        "own private folder",
        "all but the owner",
    ],
)
def test_chains_as_they_are_met(items: list[Permission], mode: int) -> None:
    assert intersection(items, items[0].uid, items[0].gid) == Access(mode, items[0].uid, items[0].gid)


def test_a_file_counts_with_its_read_bits_and_a_folder_with_those_and_its_search_bits(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "folder"
    image.touch()
    folder.mkdir()
    for bits in range(0o1000):
        image.chmod(bits)
        folder.chmod(bits)
        assert Permission.of(str(image), image.stat()).mode == bits >> 2 & 0o111
        assert Permission.of(str(folder), folder.stat()).mode == bits & 0o555
    folder.chmod(0o700)


def test_the_folders_above_are_those_that_links_lead_to(tmp_path: Path) -> None:
    real = tmp_path / "real" / "inner"
    real.mkdir(parents=True)
    real.chmod(0o710)
    (tmp_path / "link").symlink_to(real)
    found = folders_above(os.fspath(tmp_path / "link"))
    assert found == folders_above(os.fspath(real))
    assert found[-1].mode == 0o510
    assert found[0] == Permission.of("/", os.stat("/"))
    assert len(found) == len(real.resolve().parts)


def test_a_folder_of_the_mount_grants_what_every_folder_behind_it_and_above_those_grant() -> None:
    root, shut, listed = Permission(0o555, 0, 0), Permission(0o511, 0, 0), Permission(0o550, 1, 2)
    assert to_folder([(root, root)]) == (0o555, 0, 0)
    assert to_folder([(root, shut)]) == (0o511, 0, 0)
    assert to_folder([(shut, root)]) == (0o555, 0, 0), "above, searching is enough"
    assert to_folder([(root, shut), (root, root)]) == (0o511, 0, 0), "both are listed"
    assert to_folder([(root, listed)]) == (0o550, 1, 2)
    assert to_folder([(root, listed, root)]) == (0, 0, 0), "root is not known to be in group 2"


USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
NOBODY = 0xFFFF_FFFF
DENIED_GROUP = ((USER_OBJ, 7, NOBODY), (USER, 5, 4711), (GROUP_OBJ, 0, NOBODY), (MASK, 5, NOBODY), (OTHER, 0, NOBODY))
"""The owning group may nothing, but the mode's middle bits, which are the mask then, look as if it might."""
DENIED_USER = ((USER_OBJ, 7, NOBODY), (USER, 0, 4711), (GROUP_OBJ, 5, NOBODY), (MASK, 5, NOBODY), (OTHER, 5, NOBODY))
"""Every user may read but 4711, whom the synthetic file would let in as one of the others."""


def set_acl(path: Path, entries: tuple[tuple[int, int, int], ...]) -> None:
    """Give `path` an access control list of (tag, permission, uid or gid), as setfacl(1) does."""
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")


def access_below(folder: Path) -> Access:
    with closing(Root.open(os.fspath(folder))) as root:
        (found,) = walk(root, Filter(), (), Seen())
    return intersection(found.permissions, found.uid, found.gid)


@pytest.mark.parametrize("acl", [DENIED_GROUP, DENIED_USER], ids=["denied group", "denied user"])
def test_of_a_file_with_an_access_control_list_only_the_owner_is_sure(
    tmp_path: Path, acl: tuple[tuple[int, int, int], ...]
) -> None:
    image = tmp_path / "image"
    image.touch()
    set_acl(image, acl)
    assert image.stat().st_mode & 0o050 == 0o050
    assert access_below(tmp_path).mode == 0o400


@pytest.mark.parametrize("acl", [DENIED_GROUP, DENIED_USER], ids=["denied group", "denied user"])
def test_below_a_folder_with_an_access_control_list_only_the_owner_is_sure(
    tmp_path: Path, acl: tuple[tuple[int, int, int], ...]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "image").touch()
    (folder / "image").chmod(0o644)
    set_acl(folder, acl)
    assert folder.stat().st_mode & 0o050 == 0o050
    assert access_below(tmp_path).mode == 0o400
    assert folders_above(os.fspath(folder))[-1].mode == 0o500


@pytest.mark.parametrize("wait_s", [0.0, 0.1], ids=["at once", "later"])
@pytest.mark.parametrize("where", ["folder/image.qcow2", "folder"], ids=["file", "folder"])
@pytest.mark.parametrize("acl", [DENIED_GROUP, DENIED_USER], ids=["denied group", "denied user"])
def test_a_list_that_a_scan_has_not_seen_yet_is_seen_by_the_next(
    tmp_path: Path, acl: tuple[tuple[int, int, int], ...], where: str, wait_s: float
) -> None:
    """Though nothing but the ctime tells of it, and within a tick of the clock not even that."""
    (tmp_path / "folder").mkdir()
    write_blank(tmp_path / "folder" / "image.qcow2")
    set_acl(tmp_path / where, acl)
    mode = (tmp_path / where).stat().st_mode
    os.removexattr(tmp_path / where, "system.posix_acl_access")
    (tmp_path / where).chmod(mode & 0o777)
    with scanned(tmp_path) as catalog:
        time.sleep(wait_s)
        catalog.scan()
        set_acl(tmp_path / where, acl)
        assert (tmp_path / where).stat().st_mode == mode
        catalog.scan()
        entry = catalog.entries["folder/image.qcow2"]
        assert intersection(entry.permissions, entry.uid, entry.gid).mode == 0o400


def test_write_bits_are_kept_apart_and_grant_no_reading(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    for place in (file, folder):
        place.chmod(0o622)
        known = Permission.of(str(place), place.stat())
        assert known.write == 0o222
        assert known.is_without_list(place.stat())
        place.chmod(0o602)
        assert not known.is_without_list(place.stat())
    writable = Permission(0, 1, 1, 0o222)
    assert intersection([writable], 1, 1).mode == 0
    assert to_folder([(Permission(0o555, 0, 0), Permission(0o555, 1, 1, 0o220))]) == (0o775, 1, 1)
