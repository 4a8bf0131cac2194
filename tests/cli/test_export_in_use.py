"""`vdifs export --force` onto a file that a machine has in use: refused where `qemu-img convert` is refused."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

import vdifs as library
from tests.cli.conftest import Vdifs
from tests.conftest import require_loop_devices, require_mounting, require_tool
from tests.support import oracle
from tests.support.builder import make
from tests.support.writers import qemu_io, qemu_nbd
from vdifs.output.export.exporting import export

MIB = 1 << 20
Holder = Callable[[Path], AbstractContextManager[object]]
SAID = "a virtual machine or another program has it open: wait for its end, or choose another name"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source, and a machine's disk: `machine/overlay.qcow2` on `machine/base.qcow2`."""
    require_tool("qemu-io")
    require_tool("qemu-nbd")
    make(tmp_path / "source.qcow2", MIB, "write -P 1 0 64k")
    machine = tmp_path / "machine"
    machine.mkdir()
    make(machine / "base.qcow2", MIB)
    make(machine / "overlay.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    return tmp_path


def overlay_of(base: Path) -> Path:
    return base.with_name("overlay.qcow2")


# Who has what open, while `machine/NAME` is to be replaced.
HOLDERS: dict[str, tuple[str, Holder]] = {
    "a disk that is written": ("overlay.qcow2", qemu_io),
    "a disk that a server writes": ("overlay.qcow2", qemu_nbd),
    "a disk that is read": ("overlay.qcow2", lambda path: qemu_io(path, "-r")),
    "a disk that is read by one who lets others write": ("overlay.qcow2", lambda path: qemu_io(path, "-r", "-U")),
    "the base of a disk that is written": ("base.qcow2", lambda path: qemu_io(overlay_of(path))),
    "the base of a disk that is read": ("base.qcow2", lambda path: qemu_io(overlay_of(path), "-r")),
    "a base, and its disk is not in use": ("base.qcow2", lambda _: ExitStack()),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_export_is_refused_where_qemu_img_is(name: str, folder: Path, vdifs: Vdifs) -> None:
    victim, holder = HOLDERS[name]
    output = folder / "machine" / victim
    before = output.read_bytes()
    with holder(output):
        refused_by_qemu = not converts(folder / "source.qcow2", output)
        done = vdifs("export", folder / "source.qcow2", output, "--force")
    if refused_by_qemu:
        assert done == (1, "", f"vdifs: {output}: {SAID}\n")
        assert output.read_bytes() == before
        assert sorted(os.listdir(output.parent)) == ["base.qcow2", "overlay.qcow2"]
    else:
        assert done == (0, "", "")
    assert vdifs("export", folder / "source.qcow2", output, "--force") == (0, "", "")
    oracle.compare(output, folder / "source.qcow2")


def converts(source: Path, output: Path) -> bool:
    """Tell whether qemu-img writes there; a lock is what it may be refused for."""
    try:
        oracle.qemu_img("convert", "-O", "qcow2", source, output)
    except oracle.OracleError as error:
        assert "lock" in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", ["symbolic link", "link to a link", "hard link"])
def test_a_link_to_a_disk_in_use_is_refused_and_stays(kind: str, folder: Path, vdifs: Vdifs) -> None:
    disk, link = folder / "machine/overlay.qcow2", folder / "link.qcow2"
    if kind == "hard link":
        link.hardlink_to(disk)
    else:
        (folder / "first").symlink_to("machine/overlay.qcow2")
        link.symlink_to("first" if kind == "link to a link" else "machine/overlay.qcow2")
    with qemu_io(disk) as write:
        assert vdifs("export", folder / "source.qcow2", link, "--force").status == 1
        write("write -P 7 0 64k")
        assert link.samefile(disk)
        assert link.is_symlink() == (kind != "hard link")
    oracle.qemu_io(disk, ["read -P 7 0 64k"])


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_written_through(dangling: bool, folder: Path, vdifs: Vdifs) -> None:
    real, link = folder / "elsewhere.qcow2", folder / "link.qcow2"
    link.symlink_to(real.name)
    if not dangling:
        real.write_bytes(b"before")
        assert vdifs("export", folder / "source.qcow2", link).status == 2
    assert vdifs("export", folder / "source.qcow2", link, *([] if dangling else ["--force"])) == (0, "", "")
    assert link.is_symlink()
    oracle.compare(real, folder / "source.qcow2")


def test_a_backing_name_that_leads_back_through_a_link_is_refused(folder: Path, vdifs: Vdifs) -> None:
    (folder / "link.qcow2").symlink_to("machine/new.qcow2")
    base = folder / "machine/base.qcow2"
    for name in ("new.qcow2", "machine/new.qcow2"):
        status, _, err = vdifs(
            "export", folder / "machine/overlay.qcow2", folder / "link.qcow2", "--base", base, "--backing-name", name
        )
        assert (status, "would lead back to it" in err) == (2, True)


def test_a_machine_that_starts_during_the_export_keeps_its_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts when everything was written and before the file gets its name."""
    output = folder / "machine/overlay.qcow2"
    with ExitStack() as stack, library.open(folder / "source.qcow2") as image:
        unchanged = image.check_unchanged

        def start_machine() -> None:
            unchanged()
            stack.enter_context(qemu_io(output))

        monkeypatch.setattr(image, "check_unchanged", start_machine)
        before = output.stat().st_ino
        with pytest.raises(library.InUseError, match="has it open: wait for its end"):
            export(image, os.fspath(output), overwrite=True)
        assert output.stat().st_ino == before
    assert sorted(os.listdir(output.parent)) == ["base.qcow2", "overlay.qcow2"]


def test_a_disk_that_may_not_be_read_is_looked_up_among_all_locks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, really_open = os.fspath(folder / "machine/overlay.qcow2"), os.open

    def refuse(path: str, *rest: int, **more: int) -> int:
        if path == output:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, *rest, **more)

    with library.open(folder / "source.qcow2") as image:
        monkeypatch.setattr(os, "open", refuse)
        with qemu_io(Path(output)), pytest.raises(library.InUseError):
            export(image, output, overwrite=True)
        export(image, output, overwrite=True)


@contextmanager
def loop_device(file: Path) -> Iterator[str]:
    """Attach a loop device to the file; only root can."""
    if os.geteuid() != 0:
        pytest.skip("only root can attach loop devices")
    require_loop_devices()
    losetup = require_tool("losetup")
    found = subprocess.run([losetup, "--find", "--show", file], check=True, capture_output=True, text=True).stdout
    try:
        yield found.strip()
    finally:
        subprocess.run([losetup, "--detach", found.strip()], check=True)


@pytest.fixture
def device(folder: Path) -> Iterator[str]:
    """A block device of 2 MiB, which holds an ext4."""
    disk = folder / "disk.raw"
    subprocess.run([require_tool("mkfs.ext4"), "-q", disk, "2M"], check=True, capture_output=True)
    with loop_device(disk) as device:
        yield device


def test_a_file_that_a_program_without_locks_writes_is_refused(folder: Path, vdifs: Vdifs) -> None:
    output = folder / "machine/overlay.qcow2"
    with output.open("r+b"):
        done = vdifs("export", folder / "source.qcow2", output, "--force")
    assert done == (1, "", f"vdifs: {output}: {SAID}\n")
    assert vdifs("export", folder / "source.qcow2", output, "--force") == (0, "", "")


def test_a_file_behind_a_loop_device_is_refused(device: str, folder: Path, vdifs: Vdifs) -> None:
    done = vdifs("export", folder / "source.qcow2", folder / "disk.raw", "--force")
    assert done == (1, "", f"vdifs: {folder}/disk.raw: {SAID}\n")


@pytest.mark.parametrize("through", ["the device", "a link to it"])
def test_a_block_device_that_a_machine_has_open_is_refused(
    through: str, device: str, folder: Path, vdifs: Vdifs
) -> None:
    output = Path(device)
    if through == "a link to it":
        output = folder / "device"
        output.symlink_to(device)
    before = (folder / "disk.raw").read_bytes()
    with qemu_io(Path(device), "-f", "raw"):
        done = vdifs("export", folder / "source.qcow2", output, "--force")
    assert done == (1, "", f"vdifs: {output}: {SAID}\n")
    assert (folder / "disk.raw").read_bytes() == before
    assert vdifs("export", folder / "source.qcow2", output, "--force").status == 0
    assert (folder / "disk.raw").read_bytes()[:4] == b"QFI\xfb"


def test_a_block_device_that_is_mounted_is_refused(device: str, folder: Path, vdifs: Vdifs) -> None:
    place = folder / "place"
    place.mkdir()
    require_mounting()
    subprocess.run([require_tool("mount"), device, place], check=True)
    try:
        assert vdifs("export", folder / "source.qcow2", device, "--force").status == 1
    finally:
        subprocess.run([require_tool("umount"), place], check=True)


def test_what_is_only_copied_may_be_replaced(folder: Path, vdifs: Vdifs) -> None:
    """A reader that takes no locks loses nothing: it goes on reading the file that it has opened."""
    output = folder / "machine/overlay.qcow2"
    with output.open("rb") as reader:
        assert vdifs("export", folder / "source.qcow2", output, "--force").status == 0
        assert reader.read(4) == b"QFI\xfb"
    shutil.copy(output, folder / "copy.qcow2")
    oracle.compare(folder / "copy.qcow2", folder / "source.qcow2")
