"""What a directory holds: found from headers alone, and in accord with what opening the chains says."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.catalog.test_walk import fail
from tests.conftest import require_tool
from tests.support import oracle
from tests.support.age import grow_old
from tests.support.builder import make, write_blank
from tests.support.image_file import Image
from tests.support.units import MIB
from vdifs.catalog.catalog import Catalog
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, FormatError, PolicyError, StorageError, UnsupportedError, VdifsError
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.host_file import HostFile

NAMES = ["a.qcow2", "b.qcow2", "vms/c.qcow2", "vms/d.qcow2", ".hidden/e.qcow2"]


@contextmanager
def scanned(source: Path, *, trusted: tuple[Path, ...] = (), exclude: tuple[str, ...] = ()) -> Iterator[Catalog]:
    catalog = Catalog(os.fspath(source), trusted=[os.fspath(folder) for folder in trusted], exclude=exclude)
    try:
        catalog.scan()
        yield catalog
    finally:
        catalog.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source with a chain of three over two folders."""
    source = tmp_path.resolve() / "source"
    (source / "vms").mkdir(parents=True)
    write_blank(source / "base.qcow2")
    write_blank(source / "monday.qcow2", "base.qcow2", "qcow2")
    write_blank(source / "vms" / "tuesday.qcow2", "../monday.qcow2", "qcow2")
    return source


def paths(catalog: Catalog, path: str) -> list[str]:
    return [entry.path for entry in catalog.chain(path)]


def test_a_chain_is_found_from_its_headers(source: Path) -> None:
    with scanned(source) as catalog:
        assert sorted(catalog.entries) == ["base.qcow2", "monday.qcow2", "vms/tuesday.qcow2"]
        assert paths(catalog, "vms/tuesday.qcow2") == ["vms/tuesday.qcow2", "monday.qcow2", "base.qcow2"]
        assert catalog.overlays("base.qcow2") == ("monday.qcow2", "vms/tuesday.qcow2")
        assert catalog.overlays("monday.qcow2") == ("vms/tuesday.qcow2",)
        assert catalog.overlays("vms/tuesday.qcow2") == ()


def test_files_that_are_no_images_are_left_out(source: Path) -> None:
    (source / "notes.txt").write_text("no image")
    (source / "empty.qcow2").touch()
    (source / "disk.raw").write_bytes(bytes(1000))
    (source / "disk.img").write_bytes(bytes(1024))
    write_blank(source / "renamed.txt")
    with scanned(source) as catalog:
        entries = catalog.entries
        assert entries["disk.raw"].format == entries["disk.img"].format == "raw"
        assert entries["disk.raw"].virtual_size == entries["disk.img"].virtual_size == 1024
        assert entries["renamed.txt"].format == "qcow2"
        assert "notes.txt" not in entries
        assert "empty.qcow2" not in entries


def test_a_raw_file_is_an_image_once_an_overlay_says_raw(source: Path) -> None:
    (source / "disk").write_bytes(bytes(700))
    write_blank(source / "top.qcow2", "disk", "raw")
    with scanned(source) as catalog:
        assert catalog.entries["disk"].format == "raw"
        assert catalog.entries["disk"].virtual_size == 1024
        assert catalog.overlays("disk") == ("top.qcow2",)


def test_a_qcow2_that_an_overlay_calls_raw_stays_a_qcow2_and_gets_no_deltas_from_it(source: Path) -> None:
    write_blank(source / "strange.qcow2", "base.qcow2", "raw")
    with scanned(source) as catalog:
        assert catalog.entries["base.qcow2"].format == "qcow2"
        assert [entry.format for entry in catalog.chain("strange.qcow2")] == ["qcow2", "raw"]
        assert "strange.qcow2" not in catalog.overlays("base.qcow2")


def test_the_overlays_of_a_broken_image_stay_listed_as_far_as_headers_tell(source: Path) -> None:
    """source: base.qcow2 <- monday.qcow2 <- vms/tuesday.qcow2"""
    with (source / "monday.qcow2").open("r+b") as file:
        file.seek(79)
        file.write(b"\x02")  # marked corrupt
    write_blank(source / "left.qcow2", "right.qcow2", "qcow2")
    write_blank(source / "right.qcow2", "left.qcow2", "qcow2")
    with scanned(source) as catalog:
        assert catalog.overlays("monday.qcow2") == ("vms/tuesday.qcow2",)
        assert catalog.overlays("base.qcow2") == ()
        assert catalog.overlays("left.qcow2") == ("right.qcow2",)
        assert catalog.overlays("right.qcow2") == ("left.qcow2",)


def test_hidden_excluded_and_trusted_ancestors_are_images(source: Path, tmp_path: Path) -> None:
    golden = tmp_path.resolve() / "golden"
    golden.mkdir()
    (source / ".cache").mkdir()
    write_blank(golden / "gold.qcow2")
    write_blank(source / ".cache" / "hidden.qcow2", f"{golden}/gold.qcow2", "qcow2")
    write_blank(source / "top.qcow2", ".cache/hidden.qcow2", "qcow2")
    trust_path = f"@trust{golden}/gold.qcow2"
    with scanned(source, trusted=(golden,), exclude=("base*",)) as catalog:
        assert paths(catalog, "top.qcow2") == ["top.qcow2", ".cache/hidden.qcow2", trust_path]
        assert paths(catalog, "monday.qcow2") == ["monday.qcow2", "base.qcow2"]
        assert catalog.overlays(trust_path) == (".cache/hidden.qcow2", "top.qcow2")


def test_a_single_image_is_served_with_its_ancestors_alone(source: Path) -> None:
    with scanned(source / "monday.qcow2") as catalog:
        assert sorted(catalog.entries) == ["base.qcow2", "monday.qcow2"]


def test_a_bad_image_stays_and_leaves_the_others_alone(source: Path) -> None:
    write_blank(source / "bad.qcow2", cluster_bits=8)
    write_blank(source / "on-bad.qcow2", "bad.qcow2", "qcow2")
    with scanned(source) as catalog:
        assert isinstance(catalog.entries["bad.qcow2"].problem, FormatError)
        assert catalog.entries["on-bad.qcow2"].problem is None
        for path in ("bad.qcow2", "on-bad.qcow2"):
            with pytest.raises(FormatError, match="cluster_bits is 8"):
                catalog.chain(path)
        assert paths(catalog, "monday.qcow2") == ["monday.qcow2", "base.qcow2"]


def test_a_missing_backing_file_is_named_with_who_names_it(source: Path) -> None:
    write_blank(source / "orphan.qcow2", "gone.qcow2", "qcow2")
    with scanned(source) as catalog, pytest.raises(ChainError, match=r"orphan.qcow2: its backing file .*gone.qcow2"):
        catalog.chain("orphan.qcow2")


def test_an_unknown_path_is_enoent(source: Path) -> None:
    with scanned(source) as catalog, pytest.raises(StorageError) as caught:
        catalog.chain("nothing")
    assert caught.value.errno == 2


def test_a_scan_tells_whether_anything_is_different(source: Path) -> None:
    with scanned(source) as catalog:
        assert not catalog.scan()
        before = catalog.generation("vms/tuesday.qcow2")
        write_blank(source / "new.qcow2")
        assert catalog.scan()
        assert not catalog.scan()
        assert catalog.generation("vms/tuesday.qcow2") == before
        grow_old()
        write_blank(source / "base.qcow2", size=2 << 20)
        assert catalog.scan()
        assert catalog.generation("vms/tuesday.qcow2") != before
        assert catalog.entries["base.qcow2"].virtual_size == 2 << 20
        (source / "new.qcow2").unlink()
        assert catalog.scan()
        assert "new.qcow2" not in catalog.entries


def test_a_backing_file_that_comes_back_heals_the_chain(source: Path) -> None:
    write_blank(source / "orphan.qcow2", "lost.qcow2", "qcow2")
    with scanned(source) as catalog:
        with pytest.raises(ChainError):
            catalog.chain("orphan.qcow2")
        write_blank(source / "lost.qcow2")
        assert catalog.scan()
        assert paths(catalog, "orphan.qcow2") == ["orphan.qcow2", "lost.qcow2"]
        (source / "lost.qcow2").unlink()
        assert catalog.scan()
        with pytest.raises(ChainError):
            catalog.chain("orphan.qcow2")


def test_only_the_owner_reads_what_lies_on_a_private_base(source: Path) -> None:
    for image in source.rglob("*.qcow2"):
        image.chmod(0o644)
    (source / "base.qcow2").chmod(0o600)
    with scanned(source) as catalog:
        assert catalog.access("vms/tuesday.qcow2").mode & 0o044 == 0
        (source / "base.qcow2").chmod(0o644)
        (source / "vms").chmod(0o700)
        catalog.scan()
        assert catalog.access("vms/tuesday.qcow2").mode & 0o044 == 0


def test_the_folders_above_count_and_a_scan_sees_them_change(public: Path) -> None:
    source = public / "source"
    source.mkdir()
    write_blank(source / "base.qcow2")
    for place in (source, source / "base.qcow2"):
        place.chmod(0o755)
    with scanned(source) as catalog:
        assert catalog.access("base.qcow2").mode == 0o644
        assert not catalog.scan()
        public.chmod(0o700)
        assert catalog.scan(), "who looks at a mount must see the difference"
        assert catalog.access("base.qcow2").mode == 0o600


def test_asking_who_may_read_touches_no_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount asks in its event loop, which a server that hangs must not stop."""

    def fail(*_: object, **__: object) -> os.stat_result:
        raise AssertionError("a system call outside of a scan")

    with scanned(source) as catalog, monkeypatch.context() as patch:
        for name in ("stat", "lstat", "fstat", "open", "getxattr", "scandir", "readlink"):
            patch.setattr(os, name, fail)
        catalog.access("vms/tuesday.qcow2")
        catalog.chain("vms/tuesday.qcow2")
        catalog.generation("vms/tuesday.qcow2")
        catalog.overlays("base.qcow2")


def test_the_folders_above_a_data_file_beneath_a_trusted_directory_count(public: Path) -> None:
    require_tool("qemu-img")
    golden = public / "golden"
    golden.mkdir()
    make(public / "disk.qcow2", MIB, data_file=golden / "disk.data")
    for place, mode in ((golden, 0o755), (public / "disk.qcow2", 0o644), (golden / "disk.data", 0o644)):
        place.chmod(mode)
    source = public / "source"
    source.mkdir(mode=0o755)
    (public / "disk.qcow2").rename(source / "disk.qcow2")
    with scanned(source, trusted=(golden,)) as catalog:
        assert catalog.access("disk.qcow2").mode == 0o644
        golden.chmod(0o700)
        assert catalog.scan()
        assert catalog.access("disk.qcow2").mode == 0o600


def test_a_source_that_is_renamed_away_keeps_its_images_as_ones_that_cannot_be_had(source: Path) -> None:
    with scanned(source) as catalog:
        before, access = set(catalog.entries), catalog.folder_access(())
        source.rename(source.with_name("moved"))
        assert catalog.scan()
        assert set(catalog.entries) == before
        assert list(catalog.troubles) == [""]
        assert {entry.problem for entry in catalog.entries.values()} == set(catalog.troubles.values())
        assert catalog.folder_access(()) == access
        assert not catalog.scan()
        source.with_name("moved").rename(source)
        assert catalog.scan()
        assert catalog.troubles == {}
        assert {entry.problem for entry in catalog.entries.values()} == {None}


@pytest.mark.parametrize("depth", [256, 257])
def test_a_chain_has_at_most_256_images(tmp_path: Path, depth: int) -> None:
    for index in range(depth):
        write_blank(tmp_path / f"{index}.qcow2", f"{index - 1}.qcow2" if index else None, "qcow2" if index else None)
    with scanned(tmp_path) as catalog:
        if depth <= 256:
            assert len(catalog.chain(f"{depth - 1}.qcow2")) == depth
        else:
            with pytest.raises(ChainError, match="too long") as caught:
                catalog.chain(f"{depth - 1}.qcow2")
            assert caught.value.errno == 40
            assert len(catalog.overlays("0.qcow2")) == depth - 2, "an image has it as an ancestor out of reach"


@pytest.mark.parametrize(
    ("name", "backing_format", "kind", "message"),
    [
        (
            "plain.img",
            None,
            PolicyError,
            "top.qcow2: its backing file plain.img is no qcow2, VHD, VHDX, VMDK or VDI image and not stated to be",
        ),
        (
            "plain.img",
            "qcow2",
            PolicyError,
            "top.qcow2: its backing file plain.img is no qcow2, VHD, VHDX, VMDK or VDI image and not stated",
        ),
        ("base.qcow2", "qed", UnsupportedError, "top.qcow2: it states the format 'qed' for its backing file: not"),
        ("top.qcow2", "qcow2", ChainError, "top.qcow2: it is in its own chain: rebase one of the images above it"),
    ],
)
def test_what_headers_tell_is_said_of_who_can_mend_it(
    source: Path, name: str, backing_format: str | None, kind: type[VdifsError], message: str
) -> None:
    (source / "plain.img").write_bytes(bytes(MIB))
    write_blank(source / "top.qcow2", name, backing_format)
    with scanned(source) as catalog, pytest.raises(VdifsError) as caught:
        catalog.chain("top.qcow2")
    assert type(caught.value) is kind
    assert f"{source}/{message}" in str(caught.value)


backings = st.sampled_from([None, "a.qcow2", "b.qcow2", "vms/c.qcow2", ".hidden/e.qcow2", "gone", "/etc/passwd", "x:y"])
formats = st.sampled_from([None, "qcow2", "qcow2", "raw", "qed", "vmdk"])
links = st.dictionaries(st.sampled_from(NAMES), st.tuples(backings, formats), min_size=1)


@given(links=links)
@example(links={"a.qcow2": ("b.qcow2", "qcow2"), "b.qcow2": ("a.qcow2", "vmdk")})
def test_the_catalog_says_of_a_chain_what_opening_it_says(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, tuple[str | None, str | None]]
) -> None:
    source = tmp_path_factory.mktemp("catalog")
    for name, (backing, backing_format) in links.items():
        (source / name).parent.mkdir(exist_ok=True)
        if backing is None:
            write_blank(source / name)
        else:
            is_plain = ":" not in backing and not backing.startswith("/")
            stated = os.path.relpath(backing, os.path.dirname(name)) if is_plain else backing
            write_blank(source / name, stated, backing_format)
    with scanned(source) as catalog:
        for path in catalog.entries:
            assert in_catalog(catalog, path) == when_opened(catalog, path), path


Verdict = tuple[list[tuple[str, str]], type[VdifsError] | None, int]


def in_catalog(catalog: Catalog, path: str) -> Verdict:
    try:
        return [(entry.path, entry.format) for entry in catalog.chain(path)], None, 0
    except VdifsError as error:
        return [], type(error), error.errno


def when_opened(catalog: Catalog, path: str) -> Verdict:
    try:
        with Chain.open(catalog.policy, path) as chain:
            return [(member.path, member.format) for member in chain.members], None, 0
    except VdifsError as error:
        return [], type(error), error.errno


@pytest.mark.parametrize("name", ["/etc/passwd", "../../outside", "nbd:host:1", "a\tb"])
def test_an_image_with_an_unsafe_name_in_it_is_a_problem_of_its_own(source: Path, name: str) -> None:
    write_blank(source / "evil.qcow2", name, "raw")
    with scanned(source) as catalog:
        assert isinstance(catalog.entries["evil.qcow2"].problem, PolicyError)
        assert len(catalog.entries) == 4


def test_a_scan_opens_nothing_outside_the_roots(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in images lead to no open(2) but beneath the source: a FIFO there would hang, a device would act."""
    write_blank(source / "evil.qcow2", "/dev/zero", "raw")
    write_blank(source / "fifo.qcow2", "fifo", "raw")
    os.mkfifo(source / "fifo")
    with scanned(source) as catalog:
        for path, kind in (("evil.qcow2", PolicyError), ("fifo.qcow2", ChainError)):
            with pytest.raises(kind):
                catalog.chain(path)


def test_a_backing_format_other_than_qcow2_and_raw_is_not_supported(source: Path) -> None:
    write_blank(source / "odd.qcow2", "base.qcow2", "qed")
    with scanned(source) as catalog:
        assert in_catalog(catalog, "odd.qcow2") == when_opened(catalog, "odd.qcow2") == ([], UnsupportedError, 95)


@pytest.mark.parametrize("names", [("a.qcow2", "z.qcow2"), ("z.qcow2", "a.qcow2")], ids=["a is raw", "z is raw"])
def test_a_hidden_qcow2_is_a_qcow2_whichever_overlay_is_looked_at_first(source: Path, names: tuple[str, str]) -> None:
    """docs/specification.md 2.1: a qcow2 that some overlay names as raw stays an image only as qcow2, hidden or not."""
    as_raw, as_qcow2 = names
    write_blank(source / ".hidden.qcow2")
    write_blank(source / as_raw, ".hidden.qcow2", "raw")
    write_blank(source / as_qcow2, ".hidden.qcow2", "qcow2")
    with scanned(source) as catalog:
        assert catalog.entries[".hidden.qcow2"].format == "qcow2"
        for path in (as_raw, as_qcow2, ".hidden.qcow2"):
            assert in_catalog(catalog, path) == when_opened(catalog, path)


# Internal snapshots and data files: these need images that QEMU made.


@pytest.fixture
def snapshots(source: Path) -> Image:
    """`disk.qcow2` with the snapshots `one` and `two`, on `base.qcow2`."""
    require_tool("qemu-img")
    image = make(source / "disk.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    for name in ("one", "two"):
        oracle.qemu_img("snapshot", "-c", name, image.path)
    return image


def test_snapshots_are_images_that_share_the_chain_below(source: Path, snapshots: Image) -> None:
    with scanned(source) as catalog:
        for path in ("disk.qcow2", "disk.qcow2@one", "disk.qcow2@two"):
            assert paths(catalog, path) == [path, "base.qcow2"]
        entry = catalog.entries["disk.qcow2@one"]
        assert (entry.snapshot, entry.file_path, entry.virtual_size) == ("one", "disk.qcow2", MIB)
        assert {"disk.qcow2", "disk.qcow2@one", "disk.qcow2@two"} <= set(catalog.overlays("base.qcow2"))


def test_a_snapshot_and_the_active_state_are_not_each_others_ancestors(source: Path, snapshots: Image) -> None:
    with scanned(source) as catalog:
        for path in ("disk.qcow2", "disk.qcow2@one"):
            assert catalog.overlays(path) == ()


def test_a_snapshot_and_the_active_state_have_different_generations(source: Path, snapshots: Image) -> None:
    with scanned(source) as catalog:
        known = {catalog.generation(path) for path in ("disk.qcow2", "disk.qcow2@one", "disk.qcow2@two")}
        assert len(known) == 3


def test_the_name_of_a_snapshot_gives_way_to_a_file(source: Path, snapshots: Image) -> None:
    write_blank(source / "disk.qcow2@one")
    with scanned(source) as catalog:
        assert catalog.entries["disk.qcow2@one"].snapshot is None
        assert paths(catalog, "disk.qcow2@one") == ["disk.qcow2@one"]
        (left_out,) = catalog.left_out
        assert (left_out.path, left_out.kind) == ("disk.qcow2@one", "name-taken")
        assert "disk.qcow2: its snapshot would be called disk.qcow2@one, which is taken" in str(left_out.error)


def test_a_new_snapshot_appears_and_a_deleted_one_vanishes(source: Path, snapshots: Image) -> None:
    with scanned(source) as catalog:
        oracle.qemu_img("snapshot", "-c", "three", snapshots.path)
        oracle.qemu_img("snapshot", "-d", "one", snapshots.path)
        assert catalog.scan()
        assert {path for path in catalog.entries if "@" in path} == {"disk.qcow2@two", "disk.qcow2@three"}


def test_a_data_file_that_stays_as_it_is_is_no_change(source: Path) -> None:
    require_tool("qemu-img")
    make(source / "disk.qcow2", MIB, data_file=source / "disk.data")
    grow_old()
    with scanned(source) as catalog:
        assert not catalog.scan()
        (source / "disk.data").unlink()
        assert catalog.scan()
        assert catalog.entries["disk.qcow2"].data == ()


def test_of_the_files_that_cannot_be_opened_those_that_look_like_images_are_shown(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "notes.txt").write_text("no image")
    for name in ("disk.raw", "OLD.VHD", "VM-flat.VMDK", "LETTERS.RAW"):
        (source / name).write_bytes(bytes(512))

    def refuse(_: Policy, path: str) -> HostFile:
        raise StorageError(f"{path}: Permission denied", errno=13)

    monkeypatch.setattr(Policy, "open", refuse)
    with scanned(source) as catalog:
        assert sorted(catalog.entries) == ["OLD.VHD", "base.qcow2", "disk.raw", "monday.qcow2", "vms/tuesday.qcow2"]
        assert catalog.entries["OLD.VHD"].format == "vpc"
        assert {entry.problem.errno for entry in catalog.entries.values() if entry.problem} == {13}
        with pytest.raises(StorageError, match=r"monday.qcow2: Permission denied"):
            catalog.chain("monday.qcow2")


@pytest.mark.parametrize(("code", "heals"), [(errno.EIO, True), (errno.EMFILE, True), (errno.EACCES, False)])
def test_a_file_whose_name_tells_nothing_is_read_again_if_a_disk_or_this_machine_failed(
    source: Path, code: int, heals: bool
) -> None:
    """Where the file itself may not be read, it must change first: there may be very many, and each costs an open."""
    write_blank(source / "vm1")
    grow_old()
    asked: list[str] = []

    def refuse(policy: Policy, path: str) -> HostFile:
        asked.append(path)
        raise StorageError.from_os(path, OSError(code, os.strerror(code)), "look")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "open", refuse)
        with scanned(source) as catalog:
            for _ in range(2):
                assert "vm1" not in catalog.entries
                assert [(each.path, each.kind) for each in catalog.left_out] == [("vm1", "unreadable")]
                asked.clear()
                catalog.scan()
                assert ("vm1" in asked) == heals
            patch.undo()
            catalog.scan()
            assert ("vm1" in catalog.entries) == heals
            assert (catalog.left_out == ()) == heals
            (source / "vm1").chmod(0o640)
            catalog.scan()
            assert "vm1" in catalog.entries
            assert catalog.left_out == ()


def test_a_folder_that_never_could_be_looked_into_is_told_as_one(source: Path) -> None:
    scandir = os.scandir

    def failing(folder: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        if os.path.samestat(os.fstat(folder), (source / "vms").stat()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", failing)
        with scanned(source) as catalog:
            assert sorted(catalog.entries) == ["base.qcow2", "monday.qcow2"]
            assert catalog.shut == set(catalog.troubles) == {"vms"}
            assert f"{source}/vms: it cannot be searched: Input/output error" in str(catalog.troubles["vms"])
            patch.undo()
            catalog.scan()
            assert catalog.shut == set(catalog.troubles) == set()
            assert "vms/tuesday.qcow2" in catalog.entries


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"no image")], ids=["removed", "emptied"])
def test_a_single_image_that_is_none_any_more_is_a_source_in_trouble(
    source: Path, lose: Callable[[Path], object]
) -> None:
    with scanned(source / "base.qcow2") as catalog:
        lose(source / "base.qcow2")
        for changed in (True, False):
            assert catalog.scan() == changed
            assert list(catalog.troubles) == [""]
            assert list(catalog.entries) == ["base.qcow2"]
        write_blank(source / "base.qcow2")
        assert catalog.scan()
        assert catalog.troubles == {}


def test_a_data_file_counts_for_permissions_and_generation(source: Path) -> None:
    require_tool("qemu-img")
    data = source / "disk.data"
    make(source / "disk.qcow2", MIB, data_file=data)
    with scanned(source) as catalog:
        before = catalog.generation("disk.qcow2")
        grow_old()
        for path in (source / "disk.qcow2", data):
            path.chmod(0o600)
        catalog.scan()
        assert catalog.generation("disk.qcow2") != before
        before = catalog.generation("disk.qcow2")
        grow_old()
        data.write_bytes(bytes(MIB))
        assert catalog.scan()
        assert catalog.generation("disk.qcow2") != before
        data.unlink()
        assert catalog.scan()
        assert catalog.entries["disk.qcow2"].problem is not None


def test_a_file_below_a_folder_called_like_the_trust_prefix_is_not_served_for_another(tmp_path: Path) -> None:
    """Who may write to the source must not get at a private file of a trusted directory by its PATH."""
    top = tmp_path.resolve()
    private, source = top / "private", top / "source"
    forged = Path(f"{source}/@trust{private}")
    for folder in (private, forged):
        folder.mkdir(parents=True)
        write_blank(folder / "image.qcow2")
    with scanned(source, trusted=(private,)) as catalog:
        assert catalog.entries == {}


def test_a_problem_that_becomes_another_is_a_change(source: Path) -> None:
    """Of a file that is as it was: what is wrong lies in where its name leads."""
    require_tool("qemu-img")
    make(source / "split.qcow2", MIB, data_file=source / "split.data")
    (source / "split.data").unlink()
    with scanned(source) as catalog:
        assert "No such file" in str(catalog.entries["split.qcow2"].problem)
        (source / "split.data").mkdir()
        assert catalog.scan()
        assert "not a regular file" in str(catalog.entries["split.qcow2"].problem)
        assert not catalog.scan()


def test_bad_bytes_are_not_read_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_blank(source / "bad.qcow2", cluster_bits=8)
    with scanned(source) as catalog:
        grow_old()
        catalog.scan()  # a file that was just written is read twice
        read: list[str] = []
        monkeypatch.setattr("vdifs.catalog.catalog.sniff", lambda _, found, **__: read.append(found.path))
        assert not catalog.scan()
        assert read == []


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_source_in_trouble_does_not_look_like_an_empty_one(
    source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A mirror of the mount would else delete its copies."""
    with scanned(source) as catalog:
        before = dict(catalog.entries)
        with monkeypatch.context() as trouble:
            fail(trouble, code)
            assert catalog.scan() == (code != errno.EMFILE)  # which says nothing of the source
            assert catalog.entries == before
            assert list(catalog.troubles) == ([] if code == errno.EMFILE else [""])
        catalog.scan()
        assert catalog.entries == before
        assert catalog.troubles == {}
        (source / "base.qcow2").unlink()
        assert catalog.scan()
        assert "base.qcow2" not in catalog.entries


def test_the_images_of_a_folder_that_fails_stay_while_others_come_and_go(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scanned(source) as catalog:
        write_blank(source / "new.qcow2")
        (source / "base.qcow2").unlink()
        real = os.scandir
        failing = os.stat(source / "vms").st_ino

        def scandir(folder: int) -> object:
            if os.fstat(folder).st_ino == failing:
                raise OSError(errno.EIO, "played")
            return real(folder)

        monkeypatch.setattr(os, "scandir", scandir)
        assert catalog.scan()
        assert sorted(catalog.entries) == ["monday.qcow2", "new.qcow2", "vms/tuesday.qcow2"]


def test_a_source_that_cannot_be_searched_at_all_is_no_empty_one(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, errno.EIO)
    with pytest.raises(StorageError, match="it cannot be searched"), scanned(source):
        pass


def test_a_single_image_in_trouble_stays(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scanned(source / "base.qcow2") as catalog:

        def failing(*_: object) -> HostFile:
            raise StorageError("too many open files", errno=errno.EMFILE)

        monkeypatch.setattr(Policy, "open", failing)
        assert not catalog.scan()
        assert "base.qcow2" in catalog.entries


def test_a_generation_is_the_same_under_another_number_of_the_device(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blank(source / "orphan.qcow2", "gone.qcow2", "qcow2")
    with scanned(source) as catalog:
        before = {path: catalog.generation(path) for path in catalog.entries}
        numbers = {path: catalog.entries[path].fingerprint.dev for path in catalog.entries}
    original = Fingerprint.of

    def elsewhere(status: os.stat_result) -> Fingerprint:
        return original(status)._replace(dev=status.st_dev + 1)

    monkeypatch.setattr(Fingerprint, "of", elsewhere)
    with scanned(source) as catalog:
        assert {path: catalog.generation(path) for path in catalog.entries} == before
        assert all(catalog.entries[path].fingerprint.dev == number + 1 for path, number in numbers.items())
