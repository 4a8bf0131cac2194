"""VMDKs in a source: what is listed, which files may be opened for them, and which image is below."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vdifs
from tests.catalog.test_catalog import in_catalog, scanned, when_opened
from tests.support import oracle, vmdk
from tests.support.age import grow_old
from tests.support.agreement import contents, format_error, refused
from tests.support.vmdk import SECTOR, grain_of
from tests.support.writers import qemu_io
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.errors import ChainError, FormatError, InUseError, PolicyError, VdifsError
from vdifs.linux import beneath

ALICE = 12345
SECTORS = 300
CONTENT = grain_of(1, SECTORS)


@pytest.fixture
def source() -> Iterator[Path]:
    """A folder in one that every user may enter, unlike pytest's, with a secret beside it."""
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name).resolve()
        outside.chmod(0o755)
        (outside / "secret.bin").write_bytes(CONTENT)
        (outside / "source/vms").mkdir(parents=True)
        yield outside / "source"


def flat(source: Path, name: str = "a.vmdk", extent: str | bytes = "a-flat.vmdk", more: bytes = b"") -> Path:
    """Write a descriptor of one flat extent, and the extent where the name is plain."""
    line = b'RW %d FLAT "%s" 0' % (SECTORS, vmdk.as_bytes(extent))
    image = vmdk.write(
        source, name, vmdk.descriptor(line, cid="0000000a", more=more).replace(b"custom", b"monolithicFlat")
    )
    if isinstance(extent, str) and extent == os.path.basename(extent):
        (image.parent / extent).write_bytes(CONTENT)
    return image


def refusal(source: Path, path: str) -> VdifsError:
    """Return why an image is refused: when it is opened, and with the same words when it is listed."""
    with scanned(source) as catalog:
        assert in_catalog(catalog, path) == when_opened(catalog, path)
        with pytest.raises(VdifsError) as listed:
            catalog.chain(path)
    with pytest.raises(VdifsError) as opened, Policy(os.fspath(source)) as policy:
        Chain.open(policy, path)
    assert opened.value.what.partition("tried")[0] == listed.value.what.partition("tried")[0]
    return opened.value


def test_parts_are_no_images_and_not_missed_as_such(source: Path) -> None:
    """By their names, whatever a guest wrote into them; by what they hold, whatever they are called."""
    flat(source)
    (source / "b-flat.vmdk").write_bytes(b"QFI\xfb" + bytes(1020))
    (source / "c-f001.vmdk").write_bytes(vmdk.descriptor("RW 1 ZERO"))
    (source / "d-s001.vmdk").write_bytes(vmdk.hosted(512, {}, vmdk.descriptor()))
    (source / "a-ctk.vmdk").write_bytes(b"\xa2\x72\x19\xf6")
    (source / "one.vmdk").write_bytes(vmdk.hosted(512, {}))
    (source / "two.vmdk").write_bytes(vmdk.cowd(512, {}))
    (source / "three.vmdk").write_bytes(vmdk.sesparse(512, {}))
    (source / "rubbish.vmdk").write_bytes(b"what is this")
    with scanned(source) as catalog:
        for _ in range(3):
            assert set(catalog.entries) == {"a.vmdk"}
            assert [each.path for each in catalog.left_out] == ["rubbish.vmdk"]
            grow_old()
            catalog.scan()
        (source / "one.vmdk").write_bytes(b"what is this")
        catalog.scan()
        assert sorted(each.path for each in catalog.left_out) == ["one.vmdk", "rubbish.vmdk"]
        (source / "one.vmdk").write_bytes(vmdk.descriptor("RW 1 ZERO"))
        catalog.scan()
        assert set(catalog.entries) == {"a.vmdk", "one.vmdk"}


def test_a_part_that_is_asked_for_is_refused_by_name(source: Path) -> None:
    flat(source)
    with pytest.raises(FormatError, match=r"a-flat\.vmdk: it is called as a part .*: name the image, the small text"):
        vdifs.open(source / "a-flat.vmdk")


def test_a_flat_extent_may_be_a_raw_backing_file_that_is_stated_to_be_one(source: Path) -> None:
    flat(source)
    oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", "a-flat.vmdk", "-F", "raw", source / "top.qcow2")
    assert contents(source / "top.qcow2") == CONTENT


OUTSIDE = [
    "../secret.bin", "/etc/hostname", "{outside}/secret.bin", "vms/../../secret.bin", "link.bin", "folder/secret.bin",
    "..\\secret.bin", "\\\\server\\share\\secret.bin", "C:\\secret.bin", "nbd://host/secret.bin", "json:{{}}", "fifo",
    "vms", "gone.bin", "a\x01b", ".", "..",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["FLAT", "SPARSE"])
def test_nothing_outside_of_the_source_is_opened(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    (source / "link.bin").symlink_to(source.parent / "secret.bin")
    (source / "folder").symlink_to(source.parent)
    os.mkfifo(source / "fifo")
    line = f'RW 1 {kind} "{name.format(outside=source.parent)}"'
    vmdk.write(source, "a.vmdk", vmdk.descriptor(line))
    opened: list[tuple[int, int]] = []
    with monkeypatch.context() as patch:
        spy_on_opening(patch, opened)
        error = refusal(source, "a.vmdk")
    assert error.where == os.fspath(source / "a.vmdk")
    assert isinstance(error, PolicyError | ChainError)
    status = (source.parent / "secret.bin").stat()
    assert opened
    assert (status.st_dev, status.st_ino) not in opened


def spy_on_opening(patch: pytest.MonkeyPatch, opened: list[tuple[int, int]]) -> None:
    """Have `opened` get device and inode number of all that is opened beneath the source."""
    original = beneath.open_beneath

    def spy(*arguments: int | str) -> int:
        fd = original(*arguments)  # type: ignore[arg-type] # passed on
        status = os.fstat(fd)
        opened.append((status.st_dev, status.st_ino))
        return fd

    for module in ("vdifs.chain.policy", "vdifs.catalog.walk", "vdifs.chain.nearby"):
        patch.setattr(f"{module}.open_beneath", spy)


@pytest.mark.parametrize("name", ["vms/../a.bin", "./a.bin", "{source}/a.bin", "vms/b.bin", "a b.bin"])
def test_names_beneath_the_source_lead_to_extents(source: Path, name: str) -> None:
    for each in ("a.bin", "vms/b.bin", "a b.bin"):
        (source / each).write_bytes(CONTENT)
    flat(source, extent=name.format(source=source) if "/" in name else name)
    assert contents(source / "a.vmdk") == CONTENT
    with scanned(source) as catalog:
        assert [entry.path for entry in catalog.chain("a.vmdk")] == ["a.vmdk"]


def test_an_extent_outside_needs_trust(source: Path) -> None:
    image = flat(source, extent=f"{source.parent}/secret.bin")
    with refused(PolicyError, errno.EACCES, "not beneath a trusted directory"):
        vdifs.open(image)
    assert contents(image, trusted=[source.parent]) == CONTENT


def test_an_extent_of_another_user_is_no_one_else_s_to_use(source: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    lines = ['RW 1 FLAT "one.bin"', 'RW 1 FLAT "two.bin"', "RW 1 ZERO"]
    image = vmdk.write(source, "a.vmdk", vmdk.descriptor(*lines))
    for name in ("one.bin", "two.bin"):
        (source / name).write_bytes(CONTENT)
        os.chown(source / name, ALICE, ALICE)
        (source / name).chmod(0o644)
    os.chown(image, ALICE, ALICE)
    image.chmod(0o644)
    assert contents(image) == CONTENT[:SECTOR] * 2 + bytes(SECTOR)
    with scanned(source) as catalog:
        assert catalog.access("a.vmdk").mode & 0o044
    (source / "two.bin").chmod(0o600)
    with scanned(source) as catalog:
        assert not catalog.access("a.vmdk").mode & 0o044
    os.chown(source / "two.bin", 0, 0)
    error = refusal(source, "a.vmdk")
    assert isinstance(error, PolicyError)
    assert "two.bin" in str(error)


def test_each_file_of_each_extent_counts_for_the_generation(source: Path) -> None:
    files = {"one.bin": CONTENT, "two.bin": vmdk.hosted(128, {0: grain_of(3)}), "three.bin": vmdk.cowd(5, {})}
    for name, content in files.items():
        vmdk.write(source, name, content)
    lines = [f'RW {SECTORS} FLAT "one.bin"', 'RW 128 SPARSE "two.bin"', 'RW 5 VMFSSPARSE "three.bin"']
    image = vmdk.write(source, "a.vmdk", vmdk.descriptor(*lines))
    with scanned(source) as catalog:
        known = {catalog.generation("a.vmdk")}
        for name, content in {**files, "a.vmdk": vmdk.descriptor(*lines, cid="1")}.items():
            grow_old()
            vmdk.write(source, name, content)
            assert catalog.scan()
            assert catalog.generation("a.vmdk") not in known
            known.add(catalog.generation("a.vmdk"))
    for name, content in files.items():
        with vdifs.open(image, view="raw") as opened:
            before = opened.read_at(0, opened.size)
            assert before == CONTENT + grain_of(3) + bytes(5 * SECTOR)
            vmdk.write(source, name, content)
            with pytest.raises(vdifs.SourceChangedError, match=name):
                opened.check_unchanged()


def test_an_extent_that_is_written_is_in_use(source: Path) -> None:
    image = flat(source)
    with qemu_io(source / "a-flat.vmdk", "-f", "raw"):
        with refused(InUseError, errno.EBUSY, r"a-flat\.vmdk: a virtual"):
            vdifs.open(image)
        with scanned(source) as catalog:
            assert catalog.entries["a.vmdk"].live
            assert when_opened(catalog, "a.vmdk") == ([], InUseError, errno.EBUSY)


ENCODED = b'encoding="windows-1252"\n'


def test_a_name_is_tried_as_it_stands_and_then_as_its_encoding_says(source: Path) -> None:
    name = "d\xfc.bin".encode("cp1252")
    image = flat(source, extent=name, more=ENCODED)
    with refused(ChainError, errno.EIO, "cannot be opened"):
        vdifs.open(image)
    (source / "d\xfc.bin").write_bytes(CONTENT)
    assert contents(image) == CONTENT
    other = grain_of(9, SECTORS)
    with open(os.fsencode(source) + b"/" + name, "wb") as file:
        file.write(other)
    assert contents(image) == other
    with scanned(source) as catalog:
        (found,) = catalog.entries["a.vmdk"].data
        assert os.fsencode(found.path) == name


def test_the_spelling_of_a_parent_is_found_alike(source: Path) -> None:
    flat(source, "d\xfc.vmdk", "a-flat.vmdk")
    hint = "C:\\vms\\d\xfc.vmdk".encode("cp1252")
    text = vmdk.descriptor(*nothing(source, "child"), cid="b", parent_cid="a", hint=hint, more=ENCODED)
    assert contents(vmdk.write(source, "child.vmdk", text)) == CONTENT


def nothing(source: Path, name: str, sectors: int = SECTORS) -> list[str]:
    """Write an extent that holds nothing, and return its line."""
    vmdk.write(source, f"{name}-delta.vmdk", vmdk.cowd(sectors, {}))
    return [f'RW {sectors} VMFSSPARSE "{os.path.basename(name)}-delta.vmdk"']


def child(source: Path, name: str, parent: str, cid: str = "b", parent_cid: str = "a", sectors: int = SECTORS) -> Path:
    lines = nothing(source, name, sectors)
    return vmdk.write(
        source,
        f"{name}.vmdk",
        vmdk.descriptor(*lines, cid=cid, parent_cid=parent_cid, hint=parent).replace(b"custom", b"vmfsSparse"),
    )


def test_a_parent_is_found_by_its_hint_and_its_cid(source: Path) -> None:
    flat(source)
    image = child(source, "vms/b", "../a.vmdk")
    child(source, "vms/c", "/vmfs/volumes/1/vm/b.vmdk", "B", "0000000B")
    with scanned(source) as catalog:
        assert [entry.path for entry in catalog.chain("vms/c.vmdk")] == ["vms/c.vmdk", "vms/b.vmdk", "a.vmdk"]
        assert in_catalog(catalog, "vms/c.vmdk") == when_opened(catalog, "vms/c.vmdk")
        assert catalog.overlays("a.vmdk") == ("vms/b.vmdk", "vms/c.vmdk")
    with scanned(source) as catalog, Policy(os.fspath(source)) as policy:
        assert catalog.entries["vms/b.vmdk"].fingerprint
        with Chain.open(policy, "vms/c.vmdk") as chain:
            assert [member.path for member in chain.members] == ["vms/c.vmdk", "vms/b.vmdk", "a.vmdk"]
    assert contents(image, trusted=[source]) == CONTENT


@pytest.mark.parametrize("cid", ["0000000c", "ffffffff", "none"])
def test_a_parent_whose_cid_moved_on_is_refused(source: Path, cid: str) -> None:
    flat(source)
    child(source, "b", "a.vmdk")
    child(source, "c", "b.vmdk", "c", "b")
    assert contents(source / "c.vmdk") == CONTENT
    text = (source / "a.vmdk").read_bytes()
    (source / "a.vmdk").write_bytes(text.replace(b"CID=0000000a", b"#" if cid == "none" else b"CID=" + cid.encode(), 1))
    for name in ("b.vmdk", "c.vmdk"):
        error = refusal(source, name)
        assert str(error).startswith(f"{source}/b.vmdk: its parent 'a.vmdk' with the identity 0000000a is not found")
        assert "another identity" in str(error)
    oracle.qemu_img("info", "-f", "vmdk", source / "b.vmdk")
    with pytest.raises(oracle.OracleError):
        oracle.materialize(source / "b.vmdk", source / "x", format="vmdk")


@pytest.mark.parametrize(
    "name", ["gone.vmdk", "../../secret.vmdk", "/etc/hostname", "b.vmdk", "b-delta.vmdk", "a.qcow2"]
)
def test_what_is_no_parent_is_not_taken_for_one(source: Path, name: str) -> None:
    """Neither what lies elsewhere, nor the image itself, nor a part, nor an image in another format."""
    flat(source.parent, "secret.vmdk", "secret.bin")
    oracle.qemu_img("create", "-q", "-f", "qcow2", source / "a.qcow2", "1M")
    child(source, "b", name, cid="a" if name == "b.vmdk" else "b")
    error = refusal(source, "b.vmdk")
    assert "not found" in error.what or ("chain" in error.what and error.errno == errno.ELOOP)


def test_a_loop_of_parents_ends(source: Path) -> None:
    child(source, "b", "c.vmdk", "b", "c")
    child(source, "c", "b.vmdk", "c", "b")
    assert refusal(source, "b.vmdk").errno == errno.ELOOP
    assert refusal(source, "c.vmdk").errno == errno.ELOOP


@pytest.mark.parametrize("sectors", [SECTORS - 7, SECTORS, SECTORS + 9])
def test_a_child_may_have_another_size(source: Path, sectors: int) -> None:
    flat(source)
    wanted = CONTENT[: sectors * SECTOR].ljust(sectors * SECTOR, b"\0")
    assert contents(child(source, "b", "a.vmdk", sectors=sectors)) == wanted


def test_a_qcow2_may_be_on_a_vmdk(source: Path) -> None:
    flat(source)
    child(source, "b", "a.vmdk")
    for name, base in (("one", "a.vmdk"), ("two", "b.vmdk")):
        top = source / f"{name}.qcow2"
        oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "vmdk", top, str(1 << 20))
        oracle.qemu_io(top, ["write -P 7 512 1024"])
        wanted = CONTENT[:512] + b"\7" * 1024 + CONTENT[1536:]
        assert contents(top) == wanted.ljust(1 << 20, b"\0")
    with scanned(source) as catalog:
        assert [entry.format for entry in catalog.chain("two.qcow2")] == ["qcow2", "vmdk", "vmdk"]
        assert catalog.overlays("a.vmdk") == ("b.vmdk", "one.qcow2", "two.qcow2")
    oracle.qemu_img("rebase", "-u", "-f", "qcow2", "-b", "a-flat.vmdk", "-F", "vmdk", source / "one.qcow2")
    with format_error(r"a-flat\.vmdk: it is called as a part of an image"):
        vdifs.open(source / "one.qcow2")
    with scanned(source) as catalog, pytest.raises(ChainError, match=r"a-flat\.vmdk"):
        catalog.chain("one.qcow2")


def test_a_raw_image_that_is_an_extent_is_no_image_of_its_own(source: Path) -> None:
    lines = [f'RW {SECTORS} FLAT "{name}" 0' for name in ("one.raw", "vms/two.img")]
    vmdk.write(source, "a.vmdk", vmdk.descriptor(*lines))
    for name in ("one.raw", "vms/two.img", "other.raw"):
        (source / name).write_bytes(CONTENT)
    with scanned(source) as catalog:
        for _ in range(2):
            assert set(catalog.entries) == {"a.vmdk", "other.raw"}
            assert catalog.left_out == ()
            grow_old()
            catalog.scan()
        oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", "one.raw", "-F", "raw", source / "top.qcow2")
        catalog.scan()
        assert [entry.path for entry in catalog.chain("top.qcow2")] == ["top.qcow2", "one.raw"]
        assert "vms/two.img" not in catalog.entries
        (source / "a.vmdk").write_bytes(vmdk.descriptor('RW 1 FLAT "top.qcow2"'))
        catalog.scan()
        assert set(catalog.entries) == {"a.vmdk", "top.qcow2", "one.raw", "vms/two.img", "other.raw"}


def test_no_user_makes_another_one_s_image_vanish_by_naming_it_as_an_extent(source: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    image = vmdk.write(source, "a.vmdk", vmdk.descriptor(f'RW {SECTORS} FLAT "one.raw"'))
    os.chown(image, ALICE, ALICE)
    (source / "one.raw").write_bytes(CONTENT)
    (source / "one.raw").chmod(0o644)
    with scanned(source) as catalog:
        assert set(catalog.entries) == {"a.vmdk", "one.raw"}
        os.chown(source / "one.raw", ALICE, ALICE)
        catalog.scan()
        assert set(catalog.entries) == {"a.vmdk"}
