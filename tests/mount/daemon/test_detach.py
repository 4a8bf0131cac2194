"""What is said when fusermount3 cannot take a mount away, or make one."""

from pathlib import Path

import pytest

from vdifs.errors import InUseError, VdifsError
from vdifs.mount.daemon import detach, doctor
from vdifs.mount.daemon.doctor import State, examine
from vdifs.mount.fuse.session import fuse_failure


@pytest.fixture
def fusermount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fusermount3 to be written, which is the only one."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "fusermount3"


@pytest.mark.parametrize(
    ("said", "remedy", "kind"),
    [
        ("failed to unmount /m: Device or resource busy", "close the files that are open on it", InUseError),
        ("failed to open /etc/mtab: No such file", "have root run 'ln -s /proc/self/mounts /etc/mtab'", VdifsError),
        ("entry for /m not found in /etc/mtab", "unmount it as the user who mounted it, or as root", VdifsError),
    ],
)
def test_what_fusermount_says_is_passed_on_with_a_remedy(
    said: str, remedy: str, kind: type[VdifsError], fusermount: Path
) -> None:
    fusermount.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    fusermount.chmod(0o755)
    with pytest.raises(kind) as caught:
        detach._detach_as_user("/m", lazy=False)
    what = "busy" if kind is InUseError else f"cannot unmount: {said}"
    assert str(caught.value) == f"/m: {what}: {remedy}"


def test_a_mountpoint_that_is_not_the_users_own() -> None:
    said = "fusermount3: user has no write access to mountpoint /m"
    assert str(fuse_failure("/m", said)) == f"/m: cannot mount: {said}: choose a folder of your own"


def test_the_doctor_misses_the_table_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a Debian that debootstrap has made does not have, and without which users cannot unmount."""
    monkeypatch.setattr(doctor, "MTAB", str(tmp_path / "mtab"))
    (finding,) = [each for each in examine() if each.name == "mtab"]
    assert finding.state is State.WARNING
    assert finding.message.endswith("have root run 'ln -s /proc/self/mounts /etc/mtab'")
    (tmp_path / "mtab").touch()
    assert "mtab" not in [each.name for each in examine()]
