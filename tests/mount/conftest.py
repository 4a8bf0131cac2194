"""Fixtures of the mount's tests. A real mount is checked when its test ends: the log, the daemon, /proc/mounts."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import cannot_be_tried, require_tool
from tests.mount import images
from tests.mount.mounting import NOBODY, Mounts, remove_scratch


def require_fuse() -> None:
    """Skip the test where FUSE cannot be used, or fail it if CI is set."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        cannot_be_tried("/dev/fuse cannot be used")
    if (reason := why_no_mount(require_tool("fusermount3"))) is not None:
        cannot_be_tried(f"nothing can be mounted here: {reason}")


@cache
def why_no_mount(fusermount: str) -> str | None:
    """Return why nothing can be mounted, as in many containers; None if it can. Tries it, with no daemon behind it."""
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
    with ours, theirs, tempfile.TemporaryDirectory(prefix="vdifs-test-") as folder:
        command = [fusermount, "-o", "ro,nosuid,nodev", "--", folder]
        done = subprocess.run(command, env=environment, pass_fds=[theirs.fileno()], capture_output=True, text=True)
        if done.returncode:
            return " ".join(done.stderr.split()) or f"{fusermount} ended with {done.returncode}"
        subprocess.run([fusermount, "-u", "-z", folder], check=True)
    return None


@pytest.fixture
def root_only() -> None:
    """Skip a test of what only root may do."""
    if os.geteuid() != 0:
        pytest.skip("only root may do that")


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mounts for one test, in a folder that any user may enter."""
    require_fuse()
    scratch = Path(tempfile.mkdtemp(prefix="vdifs-test-")).resolve()
    scratch.chmod(0o755)
    made = Mounts(scratch)
    yield made
    problems = made.clear_away()
    remove_scratch(scratch)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture(scope="session")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the chain base <- monday <- tuesday, for all tests: each has a copy, `source`."""
    require_tool("qemu-img")
    require_tool("qemu-io")
    folder = tmp_path_factory.mktemp("week")
    images.week(folder)
    return folder


@pytest.fixture
def source(mounts: Mounts, week: Path) -> Path:
    """A folder with the chain base <- monday <- tuesday, new as if just written."""
    source = mounts.scratch / "src"
    source.mkdir()
    for image in week.iterdir():
        shutil.copyfile(image, source / image.name)
    return source


@pytest.fixture
def nobody() -> int:
    """An ordinary user, as which a test run by root can mount too."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    if not os.stat("/dev/fuse").st_mode & 0o006:
        cannot_be_tried("others may not use /dev/fuse here, as no udev has given it its mode 0666")
    return NOBODY


@pytest.fixture(params=["myself", "ordinary user"])
def user(request: pytest.FixtureRequest) -> int | None:
    """Who mounts: the user who runs the tests, and if that is root an ordinary user too."""
    if request.param == "myself":
        return None
    found: int = request.getfixturevalue("nobody")
    return found
