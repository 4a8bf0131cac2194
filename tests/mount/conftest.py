"""Fixtures of the mount's tests. A real mount is checked when its test ends: the log, the daemon, /proc/mounts."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounts, remove_scratch


def require_fuse() -> None:
    """Skip the test where FUSE cannot be used, or fail it if CI is set."""
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        require_tool("fusermount3")
    elif os.environ.get("CI"):
        pytest.fail("/dev/fuse cannot be used, and CI must have it", pytrace=False)
    else:
        pytest.skip("/dev/fuse cannot be used")


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


@pytest.fixture
def source(mounts: Mounts) -> Path:
    """A folder with the chain base <- monday <- tuesday."""
    require_tool("qemu-img")
    require_tool("qemu-io")
    images.week(mounts.scratch / "src")
    return mounts.scratch / "src"
