"""Mounting on demand: an automounter mounts when the mountpoint is visited, while the visitor waits for it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import cannot_be_tried
from tests.mount.mounting import PATIENCE_S, ROOT, Mounts, driver, eventually, is_mounted, is_running, outcome

pytestmark = pytest.mark.usefixtures("root_only")


@pytest.fixture(params=["direct", "indirect"])
def visited(request: pytest.FixtureRequest, mounts: Mounts, source: Path) -> Iterator[Path]:
    """A folder that is mounted when it is visited."""
    if "autofs" not in Path("/proc/filesystems").read_text():
        cannot_be_tried("no autofs in this kernel")
    folder = mounts.scratch / "auto"
    folder.mkdir()
    place = folder / "images" if request.param == "indirect" else folder
    command = [sys.executable, "-m", "tests.mount.automounter", request.param, str(source), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as automounter:
        assert automounter.stdin is not None
        assert automounter.stdout is not None
        assert automounter.stdout.readline() == "ready\n"
        yield place
        if is_mounted(place):
            assert outcome(driver("umount", str(place))).status == 0
        automounter.stdin.close()
        assert automounter.wait(PATIENCE_S) == 0
    eventually(lambda: subprocess.run(["umount", folder], check=False).returncode == 0)  # busy as long as it is visited


def visit(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a program that belongs to no automounter."""
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, start_new_session=True)


def status_of(place: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((place / ".vdifs/status.json").read_text())
    return report


def test_a_visitor_finds_the_images(visited: Path) -> None:
    shown = visit("ls", visited / "full")
    assert (shown.returncode, shown.stdout) == (0, "base.qcow2\nmonday.qcow2\ntuesday.qcow2\n")
    pid = status_of(visited)["pid"]
    assert os.getsid(pid) == pid, "it is in the background by now"


def test_what_was_unmounted_is_mounted_with_the_next_visit(visited: Path) -> None:
    assert visit("ls", visited / "full").returncode == 0
    pid = status_of(visited)["pid"]
    done = outcome(driver("umount", str(visited)))
    assert (done.status, done.said) == (0, "")
    assert not is_running(pid)
    assert not is_mounted(visited), "unmounting is no visit"
    assert visit("ls", visited / "full").returncode == 0
    assert status_of(visited)["pid"] != pid


def test_the_end_of_the_daemon_is_no_visit(visited: Path) -> None:
    assert visit("ls", visited / "full").returncode == 0
    pid = status_of(visited)["pid"]
    os.kill(pid, 9)
    eventually(lambda: not is_mounted(visited))
    eventually(lambda: not is_running(pid))
    assert not is_mounted(visited)
