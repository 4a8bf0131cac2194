"""The supervisor may unmount, and believes nothing of what a daemon that was taken over tells it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.mounting import Mounts, eventually, is_mounted, is_running, supervisor_of
from vdifs.linux.mountinfo import Mount, topmost
from vdifs.mount.daemon.supervisor import Supervisor

GARBAGE = [b"\n", b"-1\n", b"0\n", b"1.5\n", b"nonsense\n", b"9" * 4000, b"9" * 60 + b"\n", b"\0" * 8000, b"\xb2\n"]


@pytest.fixture
def foreign(mounts: Mounts, root_only: None) -> Iterator[Mount]:
    """A mount of another kind."""
    folder = mounts.scratch / "foreign"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "foreign", folder], check=True)
    found = topmost(str(folder))
    assert found is not None
    yield found
    subprocess.run(["umount", folder], check=True)


def attacked(mounts: Mounts, source: Path, words: bytes, user: int | None = None) -> None:
    """Have a confined daemon say `words` to its supervisor, and end; see that its own mount goes with it."""
    mounted = mounts(source, user=user, module=("tests.mount.taken_over", words.hex()))
    supervisor = supervisor_of(mounted.pid)
    eventually(lambda: "attacked" in mounted.log())
    assert is_running(supervisor)
    mounted.kill(signal.SIGKILL)
    mounted.wait_until_gone()
    eventually(lambda: not is_running(supervisor))


def test_a_number_in_its_pipe_does_not_take_a_foreign_mount_away(mounts: Mounts, source: Path, foreign: Mount) -> None:
    attacked(mounts, source, b"%d\n" % foreign.mount_id * 2)
    assert topmost(foreign.mountpoint) == foreign


def test_nor_another_mount_of_vdifs(mounts: Mounts, source: Path) -> None:
    other = mounts(source)
    found = topmost(str(other.path))
    assert found is not None
    attacked(mounts, source, b"%d\n" % found.mount_id * 2)
    assert os.listdir(other / "full")


def test_garbage_in_its_pipe_does_not_end_it(mounts: Mounts, source: Path, user: int | None) -> None:
    attacked(mounts, source, b"".join(GARBAGE), user)


def said_before_the_mount(words: bytes, mountpoint: Path) -> None:
    """Say something to a supervisor whose daemon has not mounted yet, and end."""
    supervisor = Supervisor.start(str(mountpoint))
    try:
        os.write(supervisor._pipe, words)
    finally:
        supervisor.finish()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_before_the_mount_takes_nothing_away(mounts: Mounts, source: Path, garbage: bytes) -> None:
    folder = mounts.scratch / "empty"
    folder.mkdir()
    said_before_the_mount(garbage * 5, folder)


def test_what_was_there_before_stays(mounts: Mounts, source: Path, foreign: Mount) -> None:
    """Neither another kind of mount, wherever it is, nor a mount of vdifs that the daemon found there."""
    mounted = mounts(source)
    found = topmost(str(mounted.path))
    assert found is not None
    for victim in (foreign, found):
        for mountpoint in (victim.mountpoint, mounts.scratch):
            said_before_the_mount(b"%d\n" % victim.mount_id, Path(mountpoint))
            assert topmost(victim.mountpoint) == victim


def test_a_foreign_mount_that_comes_to_its_mountpoint_stays(mounts: Mounts, root_only: None) -> None:
    folder = mounts.scratch / "mnt"
    folder.mkdir()
    supervisor = Supervisor.start(str(folder))
    subprocess.run(["mount", "-t", "tmpfs", "foreign", folder], check=True)
    foreign = topmost(str(folder))
    assert foreign is not None
    os.write(supervisor._pipe, b"%d\n" % foreign.mount_id)
    supervisor.finish()
    assert topmost(str(folder)) == foreign
    subprocess.run(["umount", folder], check=True)


def test_the_signal_of_the_daemons_end_is_not_believed_without_that(
    mounts: Mounts, source: Path, user: int | None
) -> None:
    mounted = mounts(source, user=user)
    supervisor = supervisor_of(mounted.pid)
    for _ in range(3):
        os.kill(supervisor, signal.SIGUSR1)
    eventually(lambda: not pending(supervisor))
    assert is_running(supervisor)
    assert is_mounted(mounted.path)
    mounted.kill(signal.SIGKILL)
    mounted.wait_until_gone()


def pending(pid: int) -> bool:
    """Whether signals wait for a process that has not looked at them yet."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd")))


def test_it_keeps_no_rights_but_those_of_unmounting(mounts: Mounts, source: Path, root_only: None) -> None:
    supervisor = supervisor_of(mounts(source).pid)
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{supervisor}/status").read_text().splitlines())
    allowed = 1 << 21 | 1 << 2 | 1 << 1
    assert [int(lines[name], 16) & ~allowed for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    assert int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"] == "1"
