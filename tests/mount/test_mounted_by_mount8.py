"""mount(8), fstab and the helper that it runs: `mount.fuse.vdifs` as if it were linked into /sbin.

Each test has a mount namespace of its own, in which a folder with that helper alone lies over /sbin.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import cannot_be_tried, private_namespace, require_tool
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

HELPER = f"#!{sys.executable}\nimport sys\nfrom vdifs.cli.commands.mount_helper import main\nsys.exit(main())\n"
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
    (mounts.scratch / "mnt").mkdir()
    (mounts.scratch / "sbin").mkdir()
    for name in ("mount.fuse.vdifs", "mount.vdifs"):
        helper = mounts.scratch / "sbin" / name
        helper.write_text(HELPER)
        helper.chmod(0o755)
    return mounts.scratch


def inside(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell script where /sbin holds the helper; what it mounts no other process sees."""
    words = [*private_namespace(), "bash", "-c", INSIDE, "bash", f"{folder}/sbin", f"{folder}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*words, script], capture_output=True, text=True, timeout=60, env=environment)


def test_the_package_installs_the_helpers_by_the_names_that_mount8_looks_for() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert {"mount.fuse.vdifs", "mount.vdifs"} <= set(targets["wheel"]["shared-scripts"].values())


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


def test_a_list_of_views_has_colons_where_commas_end_an_option(folder: Path) -> None:
    (folder / "fstab").write_text(f"{folder}/src {folder}/mnt fuse.vdifs ro,views=full:vhd,threads=2 0 0\n")
    done = inside(folder, f"mount -T fstab {folder}/mnt && ls mnt && umount mnt")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["full", "vhd"], "")


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
    command = [found[0], "-c", "import sys; from vdifs.cli.commands.mount_helper import main; sys.exit(main())"]
    words = [str(source), str(mountpoint), "-o", "rw,noexec,nosuid,nodev,user=somebody"]
    done = subprocess.run([*command, *words], capture_output=True, env=found[1], cwd=ROOT, timeout=60, **as_user(user))
    assert (done.returncode, done.stderr) == (0, b"")
    assert is_mounted(mountpoint)
    assert outcome(driver("umount", str(mountpoint), user)).status == 0


@pytest.fixture
def with_mount_fuse(folder: Path) -> Path:
    """The same with the helpers of libfuse as well, and a `vdifs` where the shell that they start looks for it."""
    for name in ("mount.fuse", "mount.fuse3"):
        shutil.copy(require_tool("mount.fuse3"), folder / "sbin" / name)
    program = folder / "sbin/vdifs"
    program.write_text(HELPER.replace("vdifs.cli.commands.mount_helper", "vdifs.cli.main"))
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("kind", "options"),
    [("fuse", ""), ("fuse3", "-o allow_other,nodev,nosuid"), ("fuse", "-o ro,cluster_size=4k,noatime")],
)
def test_mount_t_fuse_with_the_program_before_the_source(kind: str, options: str, with_mount_fuse: Path) -> None:
    look = "ls mnt/full && findmnt -n -o FSTYPE mnt && umount mnt"
    done = inside(with_mount_fuse, f"mount -t {kind} vdifs#{with_mount_fuse}/src mnt {options} && {look}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["base.qcow2", "monday.qcow2", "tuesday.qcow2", "fuse.vdifs"]
    eventually(lambda: not is_mounted(with_mount_fuse / "mnt"))


def test_mount_fuse_finds_the_program_where_there_is_no_helper(with_mount_fuse: Path) -> None:
    (with_mount_fuse / "sbin/mount.fuse.vdifs").unlink()
    done = inside(with_mount_fuse, "mount -t fuse.vdifs src mnt && ls mnt && umount mnt")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["delta", "full", "raw"], "")


def test_a_line_of_fstab_with_the_program_before_the_source(with_mount_fuse: Path) -> None:
    """The name of the source has what a shell would take for its own."""
    folder = with_mount_fuse
    (folder / "src").rename(folder / "it's $(false); a*")
    line = f"vdifs#{folder}/it's\\040$(false);\\040a* {folder}/mnt fuse allow_other,umask=022,nofail,_netdev,x-a.b 0 0"
    (folder / "fstab").write_text(f"{line}\n")
    done = inside(folder, "mount -T fstab mnt && ls mnt/full && findmnt -n -o FSTYPE mnt && umount mnt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["base.qcow2", "monday.qcow2", "tuesday.qcow2", "fuse.vdifs"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("vdifs#gone mnt", 1, "vdifs: {}/gone: No such file or directory: name an existing directory or image\n"),
        ("vdifs#src mnt -o frob=1", 2, "vdifs: mount: -o frob: no such mount option: see 'vdifs mount --help'\n"),
    ],
)
def test_what_mount_fuse_asks_wrongly_is_one_line(words: str, status: int, said: str, with_mount_fuse: Path) -> None:
    done = inside(with_mount_fuse, f"mount -t fuse {words}")
    assert (done.returncode, done.stderr) == (status, said.format(with_mount_fuse))


def test_another_namespace_is_refused(folder: Path) -> None:
    done = inside(folder, "/sbin/mount.vdifs src mnt -N 1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nsenter" in done.stderr
