"""`scripts/test` on a machine that is not a whole one: tries what can be tried and skips the rest with the reason."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import private_namespace, require_tool

ROOT = Path(__file__).parents[2]
# A copy of the machine beneath a folder that is no mount point itself.
CHROOT = """
for entry in /*; do
  if [ -L "$entry" ]; then cp -P "$entry" "$1"; elif [ -d "$entry" ]; then mkdir "$1$entry"; mount --rbind "$entry" "$1$entry"; fi
done
folder=$1
shift
exec chroot "$folder" "$@"
"""  # noqa: E501 - a loop reads best on one line
TRIED = [
    "tests/formats/qcow2/test_geometry.py",
    "tests/mount/test_mounts.py",
    "tests/mount/test_mounted_limits.py::test_umount_says_who_keeps_a_copy_of_the_mount",
]
RUN = ["env", "-u", "CI", str(ROOT / "scripts/test"), "-n", "1", "-q", *TRIED]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def for_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may do that")


def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*private_namespace(), *words], capture_output=True, text=True, timeout=500, env={**os.environ, **environment}
    )


def test_in_a_chroot_whose_root_is_no_mount_point(tmp_path: Path) -> None:
    done = run("bash", "-euc", CHROOT, "bash", str(tmp_path), *RUN)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "INTERNALERROR" not in done.stdout
    assert "/ is no mount point, as in a plain chroot: mounts cannot be kept apart" in done.stdout


def test_in_a_container_in_which_root_may_not_mount() -> None:
    done = run(require_tool("setpriv"), "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *RUN)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "nothing can be mounted here: " in done.stdout


def test_in_ci_what_cannot_be_tried_fails_the_run(tmp_path: Path) -> None:
    done = run("bash", "-euc", CHROOT, "bash", str(tmp_path), "env", "CI=true", *RUN[3:])
    assert done.returncode == 1
    assert "INTERNALERROR" not in done.stdout
    assert "/ is no mount point, as in a plain chroot: mounts cannot be kept apart, and CI must try it" in done.stdout
