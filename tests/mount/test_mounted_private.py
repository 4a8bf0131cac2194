"""Folders that not every user may look into, in a mount that every user may (docs/specification.md 5.6)."""

import stat
import subprocess
from pathlib import Path

import pytest

from tests.mount.mounting import NOBODY, Mounts, as_user, eventually
from tests.support.builder import make

MIB = 1 << 20


def seen_by_nobody(path: Path) -> str:
    """What an ordinary user can list at and below `path`, and read of the files about the mount."""
    words = ["sh", "-c", f"ls -R {path}; ls {path}/*/private {path}/.vdifs/*/private; cat {path}/.vdifs/status.json"]
    done: subprocess.CompletedProcess[str] = subprocess.run(words, capture_output=True, text=True, **as_user(NOBODY))
    return done.stdout


@pytest.mark.usefixtures("root_only")
def test_names_in_a_private_folder_are_for_its_owner_alone(mounts: Mounts, source: Path) -> None:
    private = source / "private"
    private.mkdir(mode=0o700)
    make(private / "secret.qcow2", MIB, backing=("../base.qcow2", "qcow2"))
    make(source / "public.qcow2", MIB, backing=("private/secret.qcow2", "qcow2"))
    mounted = mounts(source, allow_other=True)
    seen = seen_by_nobody(mounted.path)
    assert "base.qcow2" in seen
    assert "secret" not in seen
    assert "public.qcow2" in seen
    assert stat.S_IMODE((mounted / "delta/base.qcow2/private").stat().st_mode) == 0o700
    assert stat.S_IMODE((mounted / "delta/private/secret.qcow2").stat().st_mode) == 0o700
    assert stat.S_IMODE((mounted / "full").stat().st_mode) == 0o755
    assert mounted.status()["images"]
    private.chmod(0o711)
    eventually(lambda: stat.S_IMODE((mounted / "full/private").stat().st_mode) == 0o711)
    assert "secret" not in seen_by_nobody(mounted.path)
    private.chmod(0o755)
    eventually(lambda: "secret" in seen_by_nobody(mounted.path))
    assert '"private/secret.qcow2"' in seen_by_nobody(mounted.path)


@pytest.mark.usefixtures("root_only")
def test_a_source_below_a_private_folder_is_for_its_owner_alone(mounts: Mounts, source: Path) -> None:
    private = mounts.scratch / "private"
    private.mkdir(mode=0o700)
    source.rename(private / "src")
    mounted = mounts(private / "src", allow_other=True)
    assert not seen_by_nobody(mounted.path)
    overridden = mounts(private / "src", allow_other=True, umask=0o022)
    overridden.expect_log("replace the permissions of the sources")
    assert "base.qcow2" in seen_by_nobody(overridden.path)
    assert '"base.qcow2"' in seen_by_nobody(overridden.path)


@pytest.mark.usefixtures("root_only")
def test_a_folder_of_a_trusted_directory_is_for_whom_may_look_into_that(mounts: Mounts, source: Path) -> None:
    trusted = mounts.scratch / "trusted"
    (trusted / "private").mkdir(parents=True)
    (trusted / "open").mkdir()
    for name, mode in (("private", 0o700), ("open", 0o755)):
        make(trusted / name / f"{name}-base.qcow2", MIB)
        (trusted / name).chmod(mode)
        make(source / f"{name}.qcow2", MIB, backing=(str(trusted / name / f"{name}-base.qcow2"), "qcow2"))
    mounted = mounts(source, allow_other=True, trusted=[str(trusted)])
    seen = seen_by_nobody(mounted.path)
    assert "open-base.qcow2" in seen
    assert "private-base" not in seen
