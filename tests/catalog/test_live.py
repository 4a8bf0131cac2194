"""Images that are being written are refused with EBUSY, their ancestors served (docs/specification.md 5.3)."""

import errno
import os
from pathlib import Path

import pytest

import vdifs
from tests.catalog.test_catalog import scanned, when_opened
from tests.conftest import require_tool
from tests.support import oracle
from tests.support.age import grow_old
from tests.support.agreement import contents, refused
from tests.support.builder import make, make_raw, pattern, rebase
from tests.support.image_file import Image
from tests.support.units import MIB
from tests.support.writers import qemu_io, qemu_nbd
from vdifs.catalog.catalog import Catalog
from vdifs.linux.locks import LockTable
from vdifs.storage.host_file import HostFile

REFUSAL = r"disk.qcow2: a virtual machine or another program is writing it: .*--live allow"
CHAIN = ("base.qcow2", "disk.qcow2", "top.qcow2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """base.qcow2 <- disk.qcow2 <- top.qcow2, and other.qcow2 beside them."""
    require_tool("qemu-io")
    require_tool("qemu-nbd")
    source = tmp_path.resolve() / "source"
    source.mkdir()
    make(source / "base.qcow2", MIB, "write -P 1 0 64k")
    make(source / "disk.qcow2", MIB, "write -P 2 64k 64k", backing=("base.qcow2", "qcow2"))
    make(source / "top.qcow2", MIB, backing=("disk.qcow2", "qcow2"))
    make(source / "other.qcow2", MIB)
    return source


@pytest.mark.parametrize("writer", [qemu_io, qemu_nbd])
def test_an_image_that_is_written_is_refused_and_its_ancestors_are_not(source: Path, writer: object) -> None:
    assert callable(writer)
    with writer(source / "disk.qcow2"):
        for name in ("disk.qcow2", "top.qcow2"):
            with refused(vdifs.InUseError, errno.EBUSY, REFUSAL):
                vdifs.open(source / name)
        with refused(vdifs.InUseError, errno.EBUSY, REFUSAL):
            vdifs.open(source / "disk.qcow2", base=source / "base.qcow2")
        assert contents(source / "base.qcow2")[:65536] == pattern(1)
    assert contents(source / "top.qcow2")[:131072] == pattern(1) + pattern(2)


def test_a_writer_that_was_killed_is_no_writer_any_more(source: Path) -> None:
    with qemu_io(source / "disk.qcow2") as writer:
        writer("write -P 9 0 64k")
        writer.kill()
        assert contents(source / "disk.qcow2")[:65536] == pattern(9)


def test_live_allow_serves_it_until_it_changes(source: Path) -> None:
    with qemu_io(source / "disk.qcow2") as writer, vdifs.open(source / "disk.qcow2", view="raw", live="allow") as image:
        assert image.read_at(0, 131072) == pattern(1) + pattern(2)
        writer("write -P 9 64k 64k")
        with pytest.raises(vdifs.SourceChangedError):
            image.read_at(65536, 65536)
        with vdifs.open(source / "disk.qcow2", view="raw", live="allow") as again:
            assert again.read_at(65536, 65536) == pattern(9)


def test_a_writer_that_starts_later_is_seen_by_asking_again(source: Path) -> None:
    with vdifs.open(source / "top.qcow2") as image:
        image.chain.check_no_writer()
        with qemu_io(source / "disk.qcow2"):
            image.chain.check_unchanged()
            with refused(vdifs.InUseError, errno.EBUSY, REFUSAL):
                image.chain.check_no_writer()


def test_an_external_data_file_that_is_written_is_as_bad(source: Path) -> None:
    make(source / "split.qcow2", MIB, data_file=source / "split.data")
    with qemu_io(source / "split.data", "-f", "raw"), refused(vdifs.InUseError, errno.EBUSY, "split.data: a virtual"):
        vdifs.open(source / "split.qcow2")
    with qemu_io(source / "split.data", "-f", "raw"), scanned(source) as catalog:
        assert when_opened(catalog, "split.qcow2") == ([], vdifs.InUseError, errno.EBUSY)
        assert catalog.entries["split.qcow2"].live


@pytest.fixture(params=["with a lock table", "no lock table"])
def lock_table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "no lock table":
        monkeypatch.setattr(LockTable, "open", lambda: LockTable(None))
        return False
    return True


def test_the_catalog_says_so_too_where_the_machine_tells(source: Path, lock_table: bool) -> None:
    with qemu_io(source / "disk.qcow2"), scanned(source) as catalog:
        for path in CHAIN:
            chain, _, code = when_opened(catalog, path)
            assert state(catalog, path) == (code or 0, len(chain))
        assert catalog.overlays("base.qcow2") == ("disk.qcow2", "top.qcow2")
        assert catalog.entries["disk.qcow2"].virtual_size == MIB


def state(catalog: Catalog, path: str) -> tuple[int, int]:
    """Return the errno and the number of images of a chain."""
    try:
        return 0, len(catalog.chain(path))
    except vdifs.VdifsError as error:
        return error.errno, 0


def test_a_scan_sees_a_writer_come_and_go(source: Path) -> None:
    with scanned(source) as catalog:
        before = catalog.generation("disk.qcow2")
        with qemu_io(source / "disk.qcow2"):
            assert catalog.scan()
            assert [state(catalog, path)[0] for path in CHAIN] == [0, errno.EBUSY, errno.EBUSY]
            assert not catalog.scan()
        assert catalog.scan()
        assert [state(catalog, path)[0] for path in CHAIN] == [0, 0, 0]
        assert catalog.generation("disk.qcow2") == before


def test_what_a_writer_writes_is_no_change_of_the_source_before_it_ends(source: Path) -> None:
    """A folder with a running machine in it must not be a new tree at each scan; what the machine did shows after."""
    with scanned(source) as catalog:
        before = catalog.generation("disk.qcow2")
        with qemu_io(source / "disk.qcow2") as writer:
            assert catalog.scan()
            for _ in range(3):
                writer("write -P 9 512k 64k")
                assert not catalog.scan()
        assert catalog.scan()
        assert catalog.generation("disk.qcow2") != before
        assert catalog.entries["disk.qcow2"].fingerprint.size == (source / "disk.qcow2").stat().st_size


def test_what_a_writer_does_to_its_header_shows_at_once(source: Path) -> None:
    """As when a machine commits an image of its chain, and goes on with another backing file."""
    with scanned(source) as catalog, qemu_io(source / "disk.qcow2"):
        catalog.scan()
        rebase(Image(source / "disk.qcow2"), "other.qcow2")
        assert catalog.scan()
        assert catalog.entries["disk.qcow2"].backing_path == "other.qcow2"
        assert state(catalog, "disk.qcow2")[0] == errno.EBUSY


def test_another_file_in_the_place_of_one_that_is_written_is_served_at_once(source: Path) -> None:
    with scanned(source) as catalog, qemu_io(source / "disk.qcow2"):
        catalog.scan()
        oracle.qemu_img("rebase", "-u", "-b", "other.qcow2", "-F", "qcow2", source / "top.qcow2")
        os.replace(source / "top.qcow2", source / "disk.qcow2")
        assert catalog.scan()
        assert catalog.entries["disk.qcow2"].backing_path == "other.qcow2"
        assert state(catalog, "disk.qcow2") == (0, 2)


def test_a_scan_sees_a_program_that_takes_no_lock(source: Path) -> None:
    oracle.qemu_img("snapshot", "-c", "old", source / "disk.qcow2")
    with (source / "disk.qcow2").open("r+b") as writer, scanned(source) as catalog:
        for path in ("disk.qcow2", "top.qcow2"):
            assert state(catalog, path)[0] == when_opened(catalog, path)[2] == errno.EBUSY
        assert state(catalog, "disk.qcow2@old")[0] == errno.EBUSY
        assert catalog.entries["disk.qcow2"].live
        assert state(catalog, "base.qcow2") == (0, 1)
        assert not catalog.scan()
        writer.seek(0, os.SEEK_END)
        writer.write(b"x")
        writer.flush()
        assert not catalog.scan(), "each of its writes need not be a change"
        writer.close()
        assert catalog.scan()
        assert [state(catalog, path)[0] for path in CHAIN] == [0, 0, 0]
        assert catalog.entries["disk.qcow2"].fingerprint.size == (source / "disk.qcow2").stat().st_size


def test_with_live_allow_the_catalog_asks_for_no_lock(source: Path) -> None:
    with qemu_io(source / "disk.qcow2"):
        catalog = Catalog(os.fspath(source), live="allow")
        catalog.scan()
        assert [state(catalog, path)[0] for path in CHAIN] == [0, 0, 0]
        assert when_opened(catalog, "top.qcow2")[1] is None
        catalog.close()


def test_a_raw_image_that_is_written_is_refused_whoever_names_it(source: Path) -> None:
    make_raw(source / "x.raw", pattern(5))
    make(source / "on-raw.qcow2", MIB, backing=("x.raw", "raw"))
    with qemu_io(source / "x.raw", "-f", "raw"), scanned(source) as catalog:
        for path in ("x.raw", "on-raw.qcow2"):
            assert state(catalog, path)[0] == when_opened(catalog, path)[2] == errno.EBUSY


def test_the_snapshots_of_an_image_that_is_written_are_refused_with_it(source: Path) -> None:
    oracle.qemu_img("snapshot", "-c", "old", source / "disk.qcow2")
    with qemu_io(source / "disk.qcow2"), scanned(source) as catalog:
        assert state(catalog, "disk.qcow2@old")[0] == errno.EBUSY
        with refused(vdifs.InUseError, errno.EBUSY, REFUSAL):
            vdifs.open(source / "disk.qcow2", snapshot="old")


def test_an_image_that_a_machine_takes_up_between_two_scans_is_asked_once_for_all_its_snapshots(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "older"):
        oracle.qemu_img("snapshot", "-c", name, source / "disk.qcow2")
    asked: list[str] = []

    def counting(file: HostFile) -> None:
        asked.append(os.path.basename(file.path))
        check_no_writer(file)

    with scanned(source) as catalog:
        grow_old()
        catalog.scan()
        check_no_writer = HostFile.check_no_writer
        with qemu_io(source / "disk.qcow2"):
            monkeypatch.setattr(HostFile, "check_no_writer", counting)
            assert catalog.scan()
            states = [state(catalog, path)[0] for path in ("disk.qcow2", "disk.qcow2@old", "disk.qcow2@older")]
            assert states == [errno.EBUSY] * 3
            assert asked == ["disk.qcow2"]


def test_a_lock_on_a_file_of_another_disk_that_has_the_same_inode_number_is_not_taken_for_one(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = (source / "disk.qcow2").stat().st_ino
    monkeypatch.setattr(LockTable, "written_inodes", lambda _: frozenset({inode}))
    with scanned(source) as catalog:
        assert [state(catalog, path) for path in CHAIN] == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("where", ["open", "ask"])
def test_an_image_whose_locks_the_scan_cannot_ask_for_is_left_to_opening(
    source: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Gone since the search, or on a server that fails."""
    with qemu_io(source / "disk.qcow2"), scanned(source) as catalog:
        if where == "open":
            monkeypatch.setattr("vdifs.catalog.live.Policy.open", fail)
        else:
            monkeypatch.setattr("vdifs.storage.host_file.HostFile.check_no_writer", fail)
        (source / "other.qcow2").touch()
        catalog.scan()
        assert not catalog.entries["disk.qcow2"].live


def fail(*_: object) -> None:
    raise vdifs.StorageError("it cannot be asked")


@pytest.fixture
def refused_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("vdifs.storage.host_file.has_writer", fail)


@pytest.mark.usefixtures("refused_by_the_kernel")
def test_locks_that_cannot_be_asked_for_are_an_error_with_the_name(source: Path) -> None:
    with refused(vdifs.StorageError, errno.EIO, "base.qcow2: Input/output error: its locks cannot be asked for"):
        vdifs.open(source / "base.qcow2")
