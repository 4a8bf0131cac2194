"""`vdifs umount --lazy`: the mount is out of sight at once, and what is open is served until it is closed."""

import signal
import subprocess
from pathlib import Path

from tests.mount.mounting import ROOT, Mounts, as_user, driver, eventually, interpreter, is_mounted, is_running, outcome

READER = """
import sys
with open(sys.argv[1], "rb") as file:
    first = file.read(4096)
    print("open", flush=True)
    sys.stdin.readline()
    sys.stdout.write(str(len(first + file.read())))
"""


def test_a_reader_finishes_after_a_lazy_unmount(mounts: Mounts, source: Path, user: int | None) -> None:
    mounted = mounts(source, user=user)
    found = interpreter(user)
    assert found is not None
    name = str(mounted / "full/tuesday.qcow2")
    size = int(subprocess.check_output(["stat", "-c", "%s", name], **as_user(user)))
    command = [found[0], "-c", READER, name]
    with subprocess.Popen(
        command, env=found[1], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **as_user(user)
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        assert "busy" in mounted.umount().said
        done = outcome(driver("umount-lazily", str(mounted.path), user))
        assert (done.status, done.said) == (0, "")
        assert not is_mounted(mounted.path)
        assert list(mounted.path.iterdir()) == []
        assert is_running(mounted.pid)
        assert "not mounted" in mounted.umount().said
        said, _ = reader.communicate("go on\n", timeout=60)
    assert int(said) == size
    mounted.wait_until_gone()


def test_a_lazy_unmount_of_what_is_not_in_use_ends_the_daemon(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    assert outcome(driver("umount-lazily", str(mounted.path))).status == 0
    mounted.wait_until_gone()


def test_the_mountpoint_is_free_for_the_next_mount(mounts: Mounts, source: Path) -> None:
    first = mounts(source)
    with open(first / "full/base.qcow2", "rb") as reader:
        assert outcome(driver("umount-lazily", str(first.path))).status == 0
        second = mounts(source, first.path)
        assert second.pid != first.pid
        assert reader.read(4) == b"QFI\xfb"
    eventually(lambda: not is_running(first.pid))
    assert (second / "full/base.qcow2").read_bytes()[:4] == b"QFI\xfb"


def test_a_stopped_daemon_is_put_out_of_sight_too(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    mounted.kill(signal.SIGSTOP)
    try:
        assert outcome(driver("umount-lazily", str(mounted.path))).status == 0
        assert not is_mounted(mounted.path)
    finally:
        mounted.kill(signal.SIGCONT)
    mounted.wait_until_gone()
