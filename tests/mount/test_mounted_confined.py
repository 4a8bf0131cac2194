"""A mounted daemon is confined, and serves all that it should: as any user, from any file system, in any mode."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounted, Mounts, as_user, eventually, umount_disk
from tests.support.builder import make
from vdifs.mount.daemon.confinement import possible_confinement


def read(mounted: Mounted, name: str) -> bytes:
    """Read a file of the mount as the user who mounted."""
    command = ["cat", str(mounted / name)]
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        command, capture_output=True, timeout=60, **as_user(mounted.user)
    )
    if done.returncode:
        raise OSError(done.stderr.decode())
    return done.stdout


def can_read(mounted: Mounted, name: str) -> bool:
    """Whether it is there, and can be read."""
    try:
        return read(mounted, name) != b""
    except OSError:
        return False


def is_confined(pid: int) -> bool:
    """Whether each thread of a process is, as far as /proc tells."""
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            states.append((task / "status").read_text())
    assert states
    wanted = ["NoNewPrivs:\t1\n", *(["Seccomp:\t2\n"] if possible_confinement().seccomp else [])]
    return all(line in state for state in states for line in wanted)


@pytest.mark.parametrize("foreground", [False, True])
def test_every_thread_of_the_daemon_is_confined_and_the_status_says_so(
    mounts: Mounts, source: Path, user: int | None, foreground: bool
) -> None:
    if foreground and user is not None:
        pytest.skip("tried as one of them")
    mounted = mounts(source, user=user, foreground=foreground)
    assert read(mounted, "raw/tuesday.qcow2.raw")
    assert is_confined(mounted.pid)
    eventually(lambda: f"confined: {possible_confinement()}\n" in mounted.log())
    if user is None:
        possible = possible_confinement()
        assert mounted.status()["confinement"] == {
            "no_new_privs": True,
            "landlock": possible.landlock,
            "seccomp": possible.seccomp,
        }
        assert mounted.status()["log"] == str(mounted.log_file)


def test_what_comes_later_is_served(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source, user=user)
    images.week(source / "new/folder")
    eventually(lambda: can_read(mounted, "full/new/folder/tuesday.qcow2"))
    shutil.copy(source / "base.qcow2", source / "late.qcow2")
    eventually(lambda: can_read(mounted, "full/late.qcow2"))


def test_trusted_folders_are_served(mounts: Mounts, source: Path, user: int | None) -> None:
    trusted = mounts.scratch / "trusted"
    images.week(trusted)
    make(source / "on-trust.qcow2", images.SIZE, backing=(str(trusted / "base.qcow2"), "qcow2"))
    mounted = mounts(source, user=user, trusted=(str(trusted),))
    assert read(mounted, "raw/on-trust.qcow2.raw") == read(mounted, "raw/base.qcow2.raw")


def test_a_single_image_is_served(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source / "tuesday.qcow2", user=user)
    assert read(mounted, "raw/tuesday.qcow2.raw")


def test_an_image_given_by_a_link_is_served_and_the_link_leads_nowhere_else(mounts: Mounts, source: Path) -> None:
    elsewhere, links = mounts.scratch / "elsewhere", mounts.scratch / "links"
    images.week(elsewhere)
    links.mkdir()
    (links / "link.qcow2").symlink_to(source / "base.qcow2")
    mounted = mounts(links / "link.qcow2")
    assert read(mounted, "raw/link.qcow2.raw")
    if possible_confinement().landlock is None:
        return
    (links / "link.qcow2").unlink()
    (links / "link.qcow2").symlink_to(elsewhere / "base.qcow2")
    mounted.expect_log("links/link.qcow2: Permission denied")
    eventually(lambda: errno_of_listing(mounted / "full") == errno.EIO)
    assert not can_read(mounted, "raw/link.qcow2.raw")


def errno_of_listing(folder: Path) -> int | None:
    """Return what a listing fails with."""
    try:
        os.listdir(folder)
    except OSError as error:
        return error.errno
    return None


def make_tmpfs(folder: Path, scratch: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)


def make_disk(kind: str, size: int) -> object:
    def make(folder: Path, scratch: Path) -> None:
        image = scratch / f"{kind}.img"
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run([require_tool(f"mkfs.{kind}"), "-q", image], check=True, capture_output=True)
        done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no loop devices here: {done.stderr}")

    return make


@pytest.fixture(params=["tmpfs", "ext4", "xfs"])
def other_disk(request: pytest.FixtureRequest, mounts: Mounts, root_only: None) -> Iterator[Path]:
    """A folder on another file system."""
    folder = mounts.scratch / "disk"
    folder.mkdir()
    make = make_tmpfs if request.param == "tmpfs" else make_disk(request.param, 320 << 20)
    assert callable(make)
    make(folder, mounts.scratch)
    folder.chmod(0o755)
    yield folder
    problems = mounts.end_all()
    umount_disk(folder)
    assert problems == []


def test_sources_on_any_file_system(mounts: Mounts, other_disk: Path, user: int | None) -> None:
    images.week(other_disk / "src")
    mounted = mounts(other_disk / "src", user=user)
    assert is_confined(mounted.pid)
    assert len(read(mounted, "raw/tuesday.qcow2.raw")) == images.SIZE
    images.week(other_disk / "src/new")
    eventually(lambda: b"new" in subprocess.check_output(["ls", mounted / "full"], **as_user(user)))
    assert read(mounted, "raw/new/tuesday.qcow2.raw") == read(mounted, "raw/tuesday.qcow2.raw")


def test_a_log_that_was_rotated_begins_anew(mounts: Mounts, source: Path, user: int | None) -> None:
    folder = mounts.scratch / "logs"
    folder.mkdir()
    if user is not None:
        os.chown(folder, user, user)
    log = folder / "log"
    mounted = mounts(source, user=user, log_file=str(log))
    eventually(lambda: "mounted at" in log.read_text())
    log.rename(folder / "log.1")
    assert mounted.umount().status == 0
    mounted.wait_until_gone()
    assert "mounted at" in (folder / "log.1").read_text()
    assert "unmounted" not in (folder / "log.1").read_text()
    assert "unmounted" in log.read_text()


def test_a_pid_file_goes_with_the_daemon_however_it_ends(mounts: Mounts, source: Path, user: int | None) -> None:
    folder = mounts.scratch / "run"
    folder.mkdir()
    if user is not None:
        os.chown(folder, user, user)
    pid_file = folder / "pid"
    for number in (signal.SIGTERM, signal.SIGKILL):
        mounted = mounts(source, user=user, pid_file=str(pid_file))
        assert int(pid_file.read_text()) == mounted.pid
        mounted.kill(number)
        mounted.wait_until_gone()
        eventually(lambda: not pid_file.exists())


def test_the_pid_file_of_another_stays(mounts: Mounts, source: Path) -> None:
    pid_file = mounts.scratch / "pid"
    mounted = mounts(source, pid_file=str(pid_file))
    pid_file.write_text("1\n")
    assert mounted.umount().status == 0
    assert pid_file.read_text() == "1\n"


def test_a_pid_file_that_another_daemon_has_just_made_stays(mounts: Mounts, source: Path) -> None:
    pid_file = mounts.scratch / "pid"
    mounted = mounts(source, pid_file=str(pid_file))
    with pid_file.open("w") as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert mounted.umount().status == 0
        assert pid_file.exists()
    mounted = mounts(source, pid_file=str(pid_file))
    pid_file.write_text("")
    assert mounted.umount().status == 0
    assert not pid_file.exists(), "of no daemon"
