"""A mount as a service: readiness told to the service manager, the pid file."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mount.mounting import PATIENCE_S, ROOT, Mounts, driver, is_mounted, outcome

COMMAND = (sys.executable, "-c", "import sys; from vdifs.cli.main import main; sys.exit(main())")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, mounts: Mounts) -> Iterator[tuple[socket.socket, str]]:
    """The service manager's socket, and how NOTIFY_SOCKET names it."""
    name = str(mounts.scratch / "notify") if request.param == "path" else f"@vdifs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(PATIENCE_S)
        yield listening, name


def test_the_service_manager_hears_when_the_mount_answers(
    manager: tuple[socket.socket, str], mounts: Mounts, source: Path
) -> None:
    listening, name = manager
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    command = [*COMMAND, "mount", "-f", str(source), str(mountpoint), "--pid-file", str(mounts.scratch / "pid")]
    daemon = subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": name}, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        lines = listening.recv(4096).decode().splitlines()
        assert lines == ["READY=1", f"STATUS=mounted at {mountpoint}"]
        assert sorted(os.listdir(mountpoint)) == [".vdifs", "delta", "full", "raw"]
        assert (mounts.scratch / "pid").read_text() == f"{daemon.pid}\n"
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, said = daemon.communicate(timeout=PATIENCE_S)
    assert daemon.returncode == 0
    assert b"WARNING" not in said
    assert not is_mounted(mountpoint)
    assert not (mounts.scratch / "pid").exists()


def test_a_service_manager_that_is_not_there_is_a_warning(mounts: Mounts, source: Path) -> None:
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    said = b""
    with subprocess.Popen(
        [*COMMAND, "mount", "-f", str(source), str(mountpoint)],
        env={**os.environ, "NOTIFY_SOCKET": str(mounts.scratch / "nobody")},
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as daemon:
        assert daemon.stderr is not None
        while b"the service manager was not told" not in said:
            said = daemon.stderr.readline()
            assert said, "the daemon ended without a word of it"
        assert is_mounted(mountpoint)
        daemon.terminate()
    assert daemon.returncode == 0


def test_a_mount_in_the_background_is_no_service(
    manager: tuple[socket.socket, str], mounts: Mounts, source: Path
) -> None:
    """Who starts one from within a service is not that service, whose readiness is for itself to tell."""
    listening, name = manager
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    command = [*COMMAND, "mount", str(source), str(mountpoint)]
    subprocess.run(command, env={**os.environ, "NOTIFY_SOCKET": name}, cwd=ROOT, timeout=60, check=True)
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(4096)
    assert outcome(driver("umount", str(mountpoint))).status == 0


def test_a_pid_file_that_cannot_be_written_is_told(mounts: Mounts, source: Path) -> None:
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    done = mounts.attempt(source, mountpoint, pid_file=str(mounts.scratch / "none/pid"))
    assert done.status == 1
    assert done.said == f"vdifs: {mounts.scratch}/none/pid: No such file or directory: choose another pid file\n"
    assert not is_mounted(mountpoint)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"include": ["tue*"]}, ["base.qcow2", "monday.qcow2", "tuesday.qcow2"]),  # ancestors are images all the same
        ({"exclude": ["tue*", "mon*"]}, ["base.qcow2"]),
    ],
)
def test_what_is_included_and_excluded(options: dict[str, Any], names: list[str], mounts: Mounts, source: Path) -> None:
    assert sorted(os.listdir(mounts(source, **options) / "full")) == names


def test_the_user_decides_who_owns_what(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, uid=123, gid=456, umask=0o027)
    mounted.expect_log("replace the permissions")
    found = (mounted / "full/base.qcow2").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (123, 456, 0o640)
    assert json.loads((mounted / ".vdifs/status.json").read_text())["permissions_overridden"] is True
