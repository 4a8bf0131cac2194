"""mount(8), fstab and the helper that it runs: `mount.fuse.vdifs` as if it were linked into /sbin.

Each test has a mount namespace of its own, in which a folder with that helper alone lies over /sbin.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import cannot_be_tried, require_tool
from tests.mount.mounting import (
    ROOT,
    Mounts,
    as_user,
    driver,
    eventually,
    interpreter,
    is_mounted,
    is_running,
    outcome,
)

HELPER = f"#!{sys.executable}\nimport sys\nfrom vdifs.cli.mount_helper import main\nsys.exit(main())\n"
INSIDE = """
set -u
mount --bind "$1" "$(realpath /sbin)"
shift
cd "$1"
shift
eval "$1"
"""


@pytest.fixture
def folder(mounts: Mounts, source: Path, root_only: None) -> Path:
    """A folder with `src`, an empty `mnt`, and what lies over /sbin."""
    require_tool("unshare")
    (mounts.scratch / "mnt").mkdir()
    (mounts.scratch / "sbin").mkdir()
    for name in ("mount.fuse.vdifs", "mount.vdifs"):
        helper = mounts.scratch / "sbin" / name
        helper.write_text(HELPER)
        helper.chmod(0o755)
    return mounts.scratch


def inside(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell script where /sbin holds the helper; what it mounts nobody else sees."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        cannot_be_tried("no mount namespace can be made here")
    words = ["unshare", "-m", "--propagation", "private", "bash", "-c", INSIDE, "bash", f"{folder}/sbin", f"{folder}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*words, script], capture_output=True, text=True, timeout=60, env=environment)


def test_the_package_installs_the_helpers_by_the_names_that_mount8_looks_for() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["mount.fuse.vdifs"] == scripts["mount.vdifs"] == "vdifs.cli.mount_helper:main"


@pytest.mark.parametrize("kind", ["fuse.vdifs", "vdifs"])
def test_mount_t_and_umount(kind: str, folder: Path) -> None:
    script = f"mount -t {kind} src mnt -o pid-file=pid,cluster_size=4k && ls mnt/full && cat pid && umount mnt"
    done = inside(folder, script)
    assert (done.returncode, done.stderr) == (0, "")
    *names, pid = done.stdout.split()
    assert names == ["base.qcow2", "monday.qcow2", "tuesday.qcow2"]
    eventually(lambda: not is_running(int(pid)))
    eventually(lambda: not (folder / "pid").exists())


def test_a_line_of_fstab(folder: Path) -> None:
    options = "allow_other,umask=022,nofail,noatime,x-systemd.automount,_netdev,user"
    (folder / "fstab").write_text(f"{folder}/src {folder}/mnt fuse.vdifs {options} 0 0\n")
    done = inside(folder, f"mount -T fstab {folder}/mnt && findmnt -n -o FSTYPE,SOURCE mnt && umount mnt")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["fuse.vdifs", f"{folder}/src"], "")


def test_an_unknown_option_is_refused_unless_mount_shall_be_sloppy(folder: Path) -> None:
    done = inside(folder, "mount -t fuse.vdifs src mnt -o frob=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vdifs: mount: -o frob: no such mount option: see 'vdifs mount --help'\n"
    done = inside(folder, "mount -s -t fuse.vdifs src mnt -o frob=1,threads=2 && ls mnt && umount mnt")
    assert (done.returncode, done.stdout.split()) == (0, ["delta", "full", "raw"])


def test_a_failure_is_the_one_line_of_vdifs(folder: Path) -> None:
    done = inside(folder, "mount -t fuse.vdifs gone mnt")
    assert done.returncode == 1
    assert done.stderr == f"vdifs: {folder}/gone: No such file or directory: name an existing directory or image\n"


def test_a_fake_mount_checks_the_options_and_a_verbose_one_says_so(folder: Path) -> None:
    done = inside(folder, "mount -f -t fuse.vdifs src mnt && ! mountpoint -q mnt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert inside(folder, "mount -f -t fuse.vdifs src mnt -o cluster_size=3").returncode == 2
    done = inside(folder, "/sbin/mount.vdifs src mnt -n -v -t vdifs && umount mnt")
    assert (done.returncode, done.stdout) == (0, "vdifs: src mounted on mnt\n")


def test_the_helper_mounts_for_an_ordinary_user_too(mounts: Mounts, source: Path, user: int | None) -> None:
    """Which mount(8) has it do for a line of fstab with the option `user`."""
    if (found := interpreter(user)) is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    mountpoint = mounts.scratch / "mnt"
    mountpoint.mkdir()
    if user is not None:
        os.chown(mountpoint, user, user)
    command = [found[0], "-c", "import sys; from vdifs.cli.mount_helper import main; sys.exit(main())"]
    words = [str(source), str(mountpoint), "-o", "rw,noexec,nosuid,nodev,user=somebody"]
    done = subprocess.run([*command, *words], capture_output=True, env=found[1], cwd=ROOT, timeout=60, **as_user(user))
    assert (done.returncode, done.stderr) == (0, b"")
    assert is_mounted(mountpoint)
    assert outcome(driver("umount", str(mountpoint), user)).status == 0


def test_another_namespace_is_refused(folder: Path) -> None:
    done = inside(folder, "/sbin/mount.vdifs src mnt -N 1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nsenter" in done.stderr
