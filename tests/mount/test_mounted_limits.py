"""Few open files, a full log disk, a daemon that is stopped: what a mount does when it is short of something."""

import errno
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import private_namespace
from tests.mount import images
from tests.mount.mounting import SOON_S, Mounts, as_user, driver, eventually, is_mounted, is_running, outcome
from tests.support.builder import make

FEW = ("tests.mount.limited", "64")


def opened(path: Path, stack: ExitStack) -> int | str:
    """Open a file and read from it; return the descriptor, or the name of the errno."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        assert len(os.pread(descriptor, 4096, 0)) == 4096
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return descriptor


def test_with_few_open_files_images_open_or_say_why_and_all_is_well_later(
    mounts: Mounts, source: Path, user: int | None
) -> None:
    for number in range(70):
        shutil.copy(source / "base.qcow2", source / f"copy{number}.qcow2")
    mounted = mounts(source, user=user, module=FEW)
    mounted.allow_log("Too many open files")
    if user is not None:
        assert (
            subprocess.run(["cat", mounted / "raw/tuesday.qcow2.raw"], capture_output=True, **as_user(user)).returncode
            == 0
        )
        return
    names = sorted(os.listdir(mounted / "raw"))
    with ExitStack() as stack:
        answers = [opened(mounted / "raw" / name, stack) for name in names]
        assert {answer for answer in answers if isinstance(answer, str)} == {"EMFILE"}
        held = [answer for answer in answers if isinstance(answer, int)]
        assert len(held) > 20
        time.sleep(1)
        assert sorted(os.listdir(mounted / "raw")) == names
        assert all(len(os.pread(descriptor, 4096, 1 << 20)) == 4096 for descriptor in held)
    with ExitStack() as stack:
        eventually(lambda: isinstance(opened(mounted / "raw" / names[-1], stack), int), within=SOON_S)
    for name in names:
        with ExitStack() as stack:
            assert isinstance(opened(mounted / "raw" / name, stack), int), name


def test_images_that_nobody_uses_leave_room_for_others(mounts: Mounts, source: Path) -> None:
    below = "base.qcow2"
    for number in range(12):
        make(source / f"{number}.qcow2", images.SIZE, backing=(below, "qcow2"))
        below = f"{number}.qcow2"
    mounted = mounts(source, module=FEW)
    for folder in ("raw", "full"):
        for name in os.listdir(mounted / folder):
            assert (mounted / folder / name).read_bytes()


def test_a_full_log_disk_stops_nobody_and_is_told_of_later(mounts: Mounts, source: Path, root_only: None) -> None:
    folder = mounts.scratch / "logs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
    try:
        log, filler = folder / "log", folder / "filler"
        mounted = mounts(source, log_file=str(log))
        try:
            filler.write_bytes(bytes(1 << 20))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        for number in range(300):  # each a warning of its own
            shutil.copy(source / "base.qcow2", source / f"{number}.qcow2")
            images.damage_l2(source / f"{number}.qcow2")
        eventually(lambda: "299.qcow2" in os.listdir(mounted / "full"))
        for path in (mounted / "full").iterdir():
            path.stat()
        assert (mounted / "raw/tuesday.qcow2.raw").read_bytes()
        filler.unlink()
        shutil.copy(source / "0.qcow2", source / "last.qcow2")
        eventually(lambda: "last.qcow2" in os.listdir(mounted / "full"))
        (mounted / "full/last.qcow2").stat()
        eventually(lambda: "last.qcow2" in log.read_text())
        assert re.search(r"^\d+ lines of the log could not be written$", log.read_text(), re.MULTILINE)
        assert mounted.umount().status == 0
    finally:
        mounts.end_all()
        subprocess.run(["umount", folder], check=True)


def test_a_stopped_daemon_goes_on_where_it_was(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with (mounted / "raw/base.qcow2.raw").open("rb", buffering=0) as file, ThreadPoolExecutor(1) as pool:
        mounted.kill(signal.SIGSTOP)
        reading = pool.submit(os.pread, file.fileno(), 4096, 8 << 20)
        time.sleep(0.5)
        assert not reading.done()
        mounted.kill(signal.SIGCONT)
        assert len(reading.result(10)) == 4096


def test_umount_says_that_the_daemon_is_stopped(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    mounted.kill(signal.SIGSTOP)
    try:
        process = driver("umount", str(mounted.path), module=("tests.mount.driver",))
        eventually(lambda: not is_mounted(mounted.path))
        said = outcome(process).said
    finally:
        mounted.kill(signal.SIGCONT)
    pid = mounted.pid
    remedy = f"continue it with 'kill -CONT {pid}', or end it with 'kill -9 {pid}'"
    assert said == f"vdifs: {mounted.path}: unmounted, but its daemon ({pid}) is stopped: {remedy}\n"


def test_umount_says_who_keeps_a_copy_of_the_mount(mounts: Mounts, source: Path, root_only: None) -> None:
    mounted = mounts(source)
    command = [*private_namespace(), "sleep", "60"]
    with subprocess.Popen(command) as other:
        try:
            eventually(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n")
            began = time.monotonic()
            said = mounted.umount()
            assert time.monotonic() - began < 30
            assert said.status == 1
            assert is_running(mounted.pid)
            pid, path = other.pid, mounted.path
            where = f"a copy of the mount lives on in the mount namespace of sleep ({pid}), and its daemon with it"
            remedy = f"end that process, or unmount it there with 'nsenter -t {pid} -m umount {path}'"
            assert said.said == f"vdifs: {path}: unmounted, but {where}: {remedy}\n"
            subprocess.run(["nsenter", "-t", str(pid), "-m", "umount", path], check=True)
            mounted.wait_until_gone()
        finally:
            other.kill()
