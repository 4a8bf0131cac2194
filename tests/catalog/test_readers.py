"""What the folders of a mount allow: what those of the source allow that they stand for, and those above them."""

import os
from pathlib import Path

from tests.catalog.test_catalog import scanned
from tests.support.builder import write_blank
from vdifs.catalog.readers import Readers, permissions_above
from vdifs.chain.policy import Policy


def test_a_folder_allows_what_the_folder_of_the_source_and_those_above_it_do(public: Path) -> None:
    source = public / "source"
    image = source / "vms" / "old" / "a.qcow2"
    image.parent.mkdir(parents=True)
    write_blank(image)
    for folder, mode in ((source, 0o755), (source / "vms", 0o711), (image.parent, 0o755)):
        folder.chmod(mode)
    path = "vms/old/a.qcow2"
    with scanned(source) as catalog:
        assert [catalog.folder_access([(path, depth)]).mode for depth in range(3)] == [0o755, 0o711, 0o755]
        assert catalog.folder_access([(path, 2), (path, 1)]).mode == 0o711, "two folders: who may list both"
        assert catalog.folder_access([("gone.qcow2", 1)]).mode == 0
        (source / "vms").chmod(0o700)
        assert catalog.scan()
        assert [catalog.folder_access([(path, depth)]).mode for depth in range(3)] == [0o755, 0o700, 0o700]


def test_a_folder_of_a_trusted_directory_stands_for_the_one_with_its_absolute_name(public: Path) -> None:
    """`@trust` stands for `/`, and what is in it for what is in that."""
    golden, source = public / "golden", public / "source"
    for folder in (golden, source):
        folder.mkdir()
        folder.chmod(0o755)
    golden.chmod(0o711)
    write_blank(golden / "base.qcow2")
    write_blank(source / "top.qcow2", f"{golden}/base.qcow2", "qcow2")
    path = f"@trust{golden}/base.qcow2"
    with scanned(source, trusted=(golden,)) as catalog:
        depth = path.count("/")
        assert catalog.folder_access([(path, depth)]).mode == 0o711
        assert catalog.folder_access([(path, depth - 1)]).mode == 0o755


def test_behind_a_link_every_folder_counts_for_each(public: Path) -> None:
    golden, source = public / "deep" / "golden", public / "source"
    golden.mkdir(parents=True)
    source.mkdir()
    (public / "link").symlink_to(golden)
    write_blank(golden / "base.qcow2")
    write_blank(source / "top.qcow2", f"{public}/link/base.qcow2", "qcow2")
    for folder, mode in ((golden, 0o700), (golden.parent, 0o755), (source, 0o755)):
        folder.chmod(mode)
    path = f"@trust{public}/link/base.qcow2"
    with scanned(source, trusted=(public / "link",)) as catalog:
        assert {catalog.folder_access([(path, depth)]).mode for depth in range(1, path.count("/") + 1)} == {0o700}


def test_what_tells_of_all_images_is_for_who_may_list_every_folder_of_theirs(public: Path) -> None:
    golden, source = public / "golden", public / "source"
    for folder in (golden, source, source / "vms"):
        folder.mkdir()
        folder.chmod(0o755)
    write_blank(golden / "base.qcow2")
    write_blank(source / "vms" / "top.qcow2", f"{golden}/base.qcow2", "qcow2")
    (source / "vms" / "top.qcow2").chmod(0o600)
    with scanned(source, trusted=(golden,)) as catalog:
        status = source.stat()
        assert catalog.status_access() == (0o444, status.st_uid, status.st_gid), "an image need not be readable"
        for folder in (golden, source, source / "vms"):
            for mode in (0o711, 0o744, 0o700):  # entered and not listed; listed and not entered
                folder.chmod(mode)
                catalog.scan()
                assert catalog.status_access().mode == 0o400, (folder, mode)
            folder.chmod(0o755)
        public.chmod(0o700)
        catalog.scan()
        assert catalog.status_access().mode == 0o400


def test_where_the_source_has_just_gone_no_user_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with Policy(os.fspath(tmp_path / "source")) as policy:
        (tmp_path / "source").rmdir()
        readers = Readers(policy, {}, permissions_above(policy, {}, {}, {}))
        assert readers.of_all().mode == 0
        assert readers.of_folders(()).mode == 0
