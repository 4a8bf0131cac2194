"""Wrong uses, of every command: each is one line on standard error that its user can act on, and status 1 or 2."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import COMMAND, Vdifs, run_process
from tests.conftest import cannot_be_tried
from tests.mount.conftest import require_fuse
from tests.mount.mounting import NOBODY, ROOT, as_user, interpreter, is_mounted
from tests.support import oracle
from tests.support.builder import make

FAILED, USAGE = 1, 2


class Wrong(NamedTuple):
    """Words of a command line, the status, what the line says first (whose fault), and what to do."""

    words: str
    status: int
    fault: str
    remedy: str


PATHS = [
    Wrong("info gone.qcow2", FAILED, "gone.qcow2: No such file", "correct the name"),
    Wrong("info dangling", FAILED, "dangling: No such file", "correct the name"),
    Wrong("info images", FAILED, "images: is a directory", "name an image in it"),
    Wrong("info images/", FAILED, "images/: is a directory", "name an image in it"),
    Wrong(
        "info text",
        FAILED,
        "text: not a qcow2, VHD, VHDX, VMDK or VDI image",
        "name a qcow2, VHD, VHDX, VMDK or VDI image, or a raw one called",
    ),
    Wrong("info fifo", FAILED, "fifo: not a regular file", "only regular files can be images"),
    Wrong("info /dev/null", FAILED, "/dev/null: not a regular file", "only regular files can be images"),
    Wrong("info images/top.qcow2/x", FAILED, "images/top.qcow2: Not a directory", "name an existing directory"),
    Wrong("info ''", USAGE, "info: invalid value for 'IMAGE': the name is empty", "see 'vdifs info --help'"),
    Wrong("info short.qcow2", FAILED, "short.qcow2: the header ends after 80 bytes", "restore it from a copy"),
    Wrong(
        "info images/snap.qcow2@gone", FAILED, "snap.qcow2: it has no snapshot 'gone'", "choose one of its snapshots"
    ),
    Wrong("info encrypted.qcow2", FAILED, "encrypted.qcow2: the image is encrypted (LUKS)", "convert it with qemu-img"),
    Wrong(
        "info other.qed",
        FAILED,
        "other.qed: not a qcow2, VHD, VHDX, VMDK or VDI image",
        "name a qcow2, VHD, VHDX, VMDK or VDI image, or a raw one called *.raw",
    ),
    Wrong(
        "info nothing.qcow2",
        FAILED,
        "nothing.qcow2: not a qcow2, VHD, VHDX, VMDK or VDI image",
        "name a qcow2, VHD, VHDX, VMDK or VDI image",
    ),
    Wrong("info around", FAILED, "around: Too many levels of symbolic links", "name the file itself"),
    Wrong("info images/top.qcow2@", FAILED, "top.qcow2: it has no snapshot ''", "choose one of its snapshots (none)"),
    Wrong("info images/*.qcow2", FAILED, "images/*.qcow2: No such file", "correct the name"),
    Wrong("map unsupported.qcow2", FAILED, "unsupported.qcow2: qcow2 version 9", "convert it with 'qemu-img convert'"),
    Wrong("map orphan.qcow2", FAILED, "orphan.qcow2: its backing file cannot be opened", "correct the name"),
    Wrong("map away.qcow2", FAILED, "away.qcow2: it names '/elsewhere/base.qcow2'", "allow it with --trust /elsewhere"),
    Wrong("map loop.qcow2", FAILED, "loop.qcow2: it is in its own chain", "rebase one of the images"),
    Wrong(
        "map text",
        FAILED,
        "text: not a qcow2, VHD, VHDX, VMDK or VDI image",
        "name a qcow2, VHD, VHDX, VMDK or VDI image",
    ),
    Wrong("map images/top.qcow2 --base images/snap.qcow2", FAILED, "snap.qcow2 is not in its chain", "give one of its"),
    Wrong("map images/top.qcow2 --base gone", FAILED, "gone: No such file", "name an ancestor of the image"),
    Wrong("map images/top.qcow2 --trust gone", FAILED, "gone: No such file", "name an existing directory"),
    Wrong("measure gone", FAILED, "gone: No such file", "correct the name"),
    Wrong("measure images", FAILED, "images: is a directory", "name an image in it"),
    Wrong("list images/base.qcow2@s", FAILED, "base.qcow2@s: No such file", "name an existing directory or image"),
    Wrong("list gone", FAILED, "gone: No such file", "name an existing directory or image"),
    Wrong("list text", FAILED, "text: no image", "name a qcow2, VHD, VHDX, VMDK, VDI or raw image, or a directory"),
    Wrong("list fifo", FAILED, "fifo: not a regular file", "only regular files can be images"),
    Wrong("list images --trust text", FAILED, "text: Not a directory", "name an existing directory"),
    Wrong("check gone", FAILED, "gone: No such file", "name an existing directory or image"),
    Wrong("check text", FAILED, "text: no image", "name a qcow2, VHD, VHDX, VMDK, VDI or raw image, or a directory"),
    Wrong("check images/base.qcow2/", FAILED, "images/base.qcow2/: Not a directory", "name an existing directory"),
    Wrong("status /", FAILED, "/: no vdifs mount", "name the mountpoint of a 'vdifs mount'"),
    Wrong("status gone", FAILED, "gone: no vdifs mount", "name the mountpoint of a 'vdifs mount'"),
    Wrong("status text", FAILED, "text: no vdifs mount", "name the mountpoint of a 'vdifs mount'"),
    Wrong("status empty --watch", FAILED, "empty: no vdifs mount", "name the mountpoint of a 'vdifs mount'"),
    Wrong("umount gone", FAILED, "gone: not mounted", "name the mountpoint of a 'vdifs mount'"),
    Wrong("umount empty", FAILED, "empty: not mounted", "name the mountpoint of a 'vdifs mount'"),
    Wrong("umount /proc", FAILED, "/proc: is no vdifs mount", "use 'umount /proc'"),
    Wrong("export gone out", FAILED, "gone: No such file", "correct the name"),
    Wrong("export - out", FAILED, "/-: No such file", "correct the name"),
    Wrong("export images/top.qcow2 around", FAILED, "around: Too many levels of symbolic", "name a file that can be"),
    Wrong(
        "export images/top.qcow2 /proc/out", FAILED, "/proc/out: No such file", "name a file in a folder that can be"
    ),
    Wrong(f"export images/top.qcow2 {'n' * 300}", FAILED, "nnn: File name too long", "name a file that can be written"),
    Wrong("export images/top.qcow2 out --base images/base.qcow2@s", FAILED, "it has no snapshot 's'", "choose one of"),
    Wrong("export images/top.qcow2 images", USAGE, "images: is a directory", "name a file in it"),
    Wrong("export images/top.qcow2 out/", USAGE, "out/: the name of a folder", "name a file in it"),
    Wrong("export images/top.qcow2 text", USAGE, "text: exists already", "choose another name, or give --force"),
    Wrong("export images/top.qcow2 gone/out", FAILED, "gone/out: No such file", "name a file in a folder that can be"),
    Wrong("export images/top.qcow2 text/out", FAILED, "text/out: Not a directory", "name a file"),
    Wrong("export images/top.qcow2 /dev/full --force", FAILED, "/dev/full: No space left", "make room"),
    Wrong(
        "export images/top.qcow2 images/base.qcow2 --force", USAGE, "it is a file of the chain", "choose another name"
    ),
    Wrong(
        "export images/top.qcow2 out --base images/snap.qcow2",
        FAILED,
        "snap.qcow2 is not in its chain",
        "give one of its",
    ),
]
OPTIONS = [
    Wrong("frobnicate", USAGE, "no such command 'frobnicate'", "see 'vdifs --help'"),
    Wrong("--frob", USAGE, "no such option", "see 'vdifs --help'"),
    Wrong("info", USAGE, "info: missing argument 'IMAGE'", "see 'vdifs info --help'"),
    Wrong("exprot images/top.qcow2 out", USAGE, "no such command 'exprot'", "Did you mean 'export'?: see"),
    Wrong("info --base images/base.qcow2 images/top.qcow2", USAGE, "info: no such option '--base'", "see 'vdifs info"),
    Wrong("export images/top.qcow2 ''", USAGE, "'OUTPUT': the name is empty", "see 'vdifs export --help'"),
    Wrong(
        "export images/top.qcow2 out --cluster-size 4M", USAGE, "cluster size 4194304", "give a power of two from 512"
    ),
    Wrong(
        "export images/top.qcow2 out --cluster-size -1", USAGE, "'-1' is no size such as", "see 'vdifs export --help'"
    ),
    Wrong("export images/top.qcow2 out --trust", USAGE, "option '--trust' requires an argument", "see 'vdifs export"),
    Wrong("status", USAGE, "status: missing argument 'MOUNTPOINT'", "see 'vdifs status --help'"),
    Wrong("umount empty empty", USAGE, "umount: got unexpected extra argument", "see 'vdifs umount --help'"),
    Wrong("doctor --output svg", USAGE, "'svg' is not one of", "see 'vdifs doctor --help'"),
    Wrong("--debug --output", USAGE, "no such option '--output'", "see 'vdifs --help'"),
    Wrong("info a b", USAGE, "info: got unexpected extra argument", "see 'vdifs info --help'"),
    Wrong("list images --output svg", USAGE, "'svg' is not one of 'human', 'json'", "see 'vdifs list --help'"),
    Wrong("map images/top.qcow2 --output", USAGE, "'--output' requires an argument", "see 'vdifs map --help'"),
    Wrong("measure images/top.qcow2 --cluster-size 1000", USAGE, "cluster size 1000", "give a power of two from 512"),
    Wrong(
        "measure images/top.qcow2 --cluster-size big", USAGE, "'big' is no size such as", "see 'vdifs measure --help'"
    ),
    Wrong("measure images/top.qcow2 --format vhdx", USAGE, "'vhdx' is not one of", "see 'vdifs measure --help'"),
    Wrong("export images/top.qcow2", USAGE, "export: missing argument 'OUTPUT'", "see 'vdifs export --help'"),
    Wrong("export images/top.qcow2 out --backing-name x", USAGE, "--backing-name needs --base", "see 'vdifs export"),
    Wrong(
        "export images/top.qcow2 out --format raw --base images/base.qcow2",
        USAGE,
        "--format raw goes with neither --base",
        "see 'vdifs export --help'",
    ),
    Wrong(
        "export images/top.qcow2 out --base images/base.qcow2 --backing-name out",
        USAGE,
        "out: the name of its backing file, 'out', would lead back to it",
        "choose another output, or give --backing-name",
    ),
    Wrong(
        "export images/top.qcow2 out --base images/base.qcow2 --backing-name ''",
        USAGE,
        "a backing file name of 0 bytes does not fit",
        "give a shorter one",
    ),
    Wrong("export images/top.qcow2 out --extended-l2 --cluster-size 512", USAGE, "16384 bytes", "ask for larger ones"),
    Wrong("export images/top.qcow2 out --progress dots", USAGE, "'dots' is not one of", "see 'vdifs export --help'"),
    Wrong("completion tcsh", USAGE, "'tcsh' is not one of 'bash', 'zsh', 'fish'", "see 'vdifs completion --help'"),
    Wrong("completion", USAGE, "completion: missing argument 'SHELL'", "see 'vdifs completion --help'"),
    Wrong("help frob", USAGE, "no such command 'frob'", "see 'vdifs --help'"),
    Wrong("help --man list", USAGE, "--man is about all commands", "leave out COMMAND"),
]
MOUNTS = [
    Wrong("mount images", USAGE, "mount: missing argument 'MOUNTPOINT'", "see 'vdifs mount --help'"),
    Wrong("mount gone empty", FAILED, "gone: No such file", "name an existing directory or image"),
    Wrong(
        "mount text empty", FAILED, "text: no image", "name a qcow2, VHD, VHDX, VMDK, VDI or raw image, or a directory"
    ),
    Wrong("mount images gone", FAILED, "gone: there is no such mountpoint", "make it with 'mkdir -p "),
    Wrong("mount images text", FAILED, "text: not a directory", "the mountpoint must be one"),
    Wrong("mount images ''", USAGE, "mount: invalid value for 'MOUNTPOINT': the name is empty", "see 'vdifs mount"),
    Wrong("mount images images", USAGE, "images: the mount would hide", "mount somewhere else"),
    Wrong("mount images .", USAGE, ": the mount would hide", "mount somewhere else"),
    Wrong("mount images empty --trust gone", FAILED, "gone: No such file", "name an existing directory"),
    Wrong("mount images empty --cluster-size 3", USAGE, "cluster size 3", "give a power of two"),
    Wrong("mount images empty --deadline 0", USAGE, "deadline 0.0", "give a number of seconds above 0"),
    Wrong("mount images empty --deadline soon", USAGE, "'soon' is not a valid float", "see 'vdifs mount --help'"),
    Wrong("mount images empty --threads 0", USAGE, "'--threads': 0 is not in the range", "see 'vdifs mount --help'"),
    Wrong("mount images empty --umask 9", USAGE, "'9' is no octal number", "see 'vdifs mount --help'"),
    Wrong("mount images empty --umask 1000", USAGE, "umask 1000", "give an octal number up to 777"),
    Wrong("mount images empty --uid nobody-at-all", USAGE, "'nobody-at-all' is no user here", "see 'vdifs mount"),
    Wrong("mount images empty --live maybe", USAGE, "'maybe' is not one of 'refuse', 'allow'", "see 'vdifs mount"),
    Wrong("mount images empty --log-file gone/log", FAILED, "gone/log: No such file", "choose another log file"),
    Wrong("mount images empty --log-file images", FAILED, "images: Is a directory", "choose another log file"),
    Wrong("mount images empty --pid-file gone/pid", FAILED, "gone/pid: No such file", "choose another pid file"),
    Wrong(
        "mount images empty --log-file empty/a", USAGE, "empty/a: the mount would hide it", "choose another log file"
    ),
    Wrong(
        "mount images empty --pid-file empty/a", USAGE, "empty/a: the mount would hide it", "choose another pid file"
    ),
    Wrong("mount images around", FAILED, "around: Too many levels of symbolic links", "choose a mountpoint"),
    Wrong("mount images empty more", USAGE, "mount: got unexpected extra argument (more)", "see 'vdifs mount --help'"),
    Wrong("mount images empty --deadline nan", USAGE, "deadline nan", "give a number of seconds above 0"),
    Wrong("mount images empty --gid 4294967295", USAGE, "4294967295 is more than", "see 'vdifs mount --help'"),
    Wrong("mount images empty --trust ''", USAGE, "'--trust': the name is empty", "see 'vdifs mount --help'"),
    Wrong("mount images empty -o cluster-size=", USAGE, "'' is no size", "see 'vdifs mount --help'"),
    Wrong("mount images empty -o allow_other=yes", USAGE, "-o allow_other: takes no value", "leave out =yes"),
    Wrong("mount -t vdifs images empty", USAGE, "mount: no such option '-t'", "see 'vdifs mount --help'"),
    Wrong("mount images empty -o frob", USAGE, "-o frob: no such mount option", "see 'vdifs mount --help'"),
    Wrong("mount images empty -o threads", USAGE, "-o threads: needs a value", "as in threads=VALUE"),
]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are not what they should be."""
    folder = tmp_path_factory.mktemp("things")
    for name in ("images", "empty"):
        (folder / name).mkdir()
    make(folder / "images" / "base.qcow2", 1 << 20)
    make(folder / "images" / "top.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
    make(folder / "images" / "snap.qcow2", 1 << 20)
    oracle.qemu_img("snapshot", "-c", "s", "snap.qcow2", cwd=folder / "images")
    image = (folder / "images/base.qcow2").read_bytes()
    (folder / "short.qcow2").write_bytes(image[:80])
    (folder / "unsupported.qcow2").write_bytes(image[:7] + b"\x09" + image[8:])
    backing = {"orphan": "gone.qcow2", "away": "/elsewhere/base.qcow2", "loop": "round.qcow2", "round": "loop.qcow2"}
    for name, below in backing.items():
        oracle.qemu_img(
            "create", "-q", "-u", "-f", "qcow2", "-b", below, "-F", "qcow2", f"{name}.qcow2", "1M", cwd=folder
        )
    (folder / "text").write_text("no image")
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to("gone")
    (folder / "around").symlink_to("around")
    (folder / "nothing.qcow2").touch()
    oracle.qemu_img("create", "-q", "-f", "qed", "other.qed", "1M", cwd=folder)
    oracle.create_encrypted(folder / "encrypted.qcow2", "luks")
    return folder


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path): path.lstat() for path in sorted(folder.rglob("*"))}
    return {path: (each.st_size, each.st_mtime_ns) for path, each in found.items()}


@pytest.fixture
def folder(things: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same as working directory: a wrong use changes nothing in it, and leaves nothing behind."""
    monkeypatch.chdir(things)
    before = state_of(things)
    yield things
    assert state_of(things) == before


def words_of(wrong: Wrong) -> list[str]:
    return [word.strip("'") for word in wrong.words.split()]


def prove_one_line(wrong: Wrong, status: int, out: str, err: str) -> None:
    assert (status, out) == (wrong.status, "")
    assert re.fullmatch(r"vdifs: [^\n]+\n", err), err
    fault, remedy = err.lower().find(wrong.fault.lower()), err.rfind(wrong.remedy)
    assert 0 <= fault < remedy, err


def test_they_are_at_least_a_hundred() -> None:
    assert len({wrong.words for wrong in PATHS + OPTIONS + MOUNTS}) == len(PATHS + OPTIONS + MOUNTS) > 100


@pytest.mark.parametrize("wrong", PATHS + OPTIONS, ids=lambda wrong: wrong.words)
def test_a_wrong_use_is_one_line_to_act_on(wrong: Wrong, folder: Path, vdifs: Vdifs) -> None:
    prove_one_line(wrong, *vdifs(*words_of(wrong)))


@pytest.mark.parametrize("wrong", MOUNTS, ids=lambda wrong: wrong.words)
def test_a_mount_that_cannot_be_is_one_line_to_act_on(wrong: Wrong, folder: Path) -> None:
    require_fuse()
    done = run_process(*words_of(wrong))
    if is_mounted(folder / "empty"):
        subprocess.run(["umount", "-l", folder / "empty"])
    prove_one_line(wrong, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def forbidden() -> Iterator[tuple[Path, int | None]]:
    """A folder whose `base.qcow2` one user, None for the user who runs the tests, may not read, and that user."""
    with tempfile.TemporaryDirectory(prefix="vdifs-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make(folder / "base.qcow2", 1 << 20)
        make(folder / "top.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
        (folder / "base.qcow2").chmod(0)
        yield folder, NOBODY if os.geteuid() == 0 else None


@pytest.mark.parametrize("command", ["info --backing-chain", "map", "export", "measure", "list", "check"])
def test_what_one_may_not_read_is_told(command: str, forbidden: tuple[Path, int | None]) -> None:
    folder, user = forbidden
    if (found := interpreter(user)) is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    words = [*command.split(), str(folder if command in ("list", "check") else folder / "top.qcow2")]
    words += ["-"] if command == "export" else []
    done = subprocess.run(
        [found[0], *COMMAND[1:], *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=found[1],
        cwd=ROOT,
        **as_user(user),
    )
    assert done.returncode == (0 if command == "list" else 1)
    assert "base.qcow2: Permission denied: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (0 if command in ("list", "check") else 1)


RELATIVE = ("list .", "info a", "check .", "map a", "measure a", "export a b", "mount . m", "umount .", "status .")


@pytest.mark.parametrize("command", RELATIVE)
def test_a_working_directory_that_is_gone_is_named(tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def stand_there() -> None:
        os.chdir(gone)
        gone.rmdir()

    done = run_process(*command.split(), preexec_fn=stand_there)
    remedy = "change to another with cd, or give absolute paths"
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"vdifs: the working directory: it has been removed: {remedy}\n",
    )


@pytest.mark.parametrize("environment", [{}, {"PATH": "/usr/bin:/bin"}, {"HOME": "/nowhere", "PATH": ""}], ids=str)
@pytest.mark.parametrize(
    "command", ["list .", "info a.qcow2", "check .", "map a.qcow2", "measure a.qcow2", "export a.qcow2 b"]
)
def test_no_environment_is_no_hindrance(tmp_path: Path, command: str, environment: dict[str, str]) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    done = run_process(*command.split(), cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_odd_umask_is_no_hindrance_to_an_export(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    for umask, mode in ((0o777, 0), (0, 0o666), (0o027, 0o640)):
        done = run_process("export", "--force", "a.qcow2", "b", cwd=tmp_path, umask=umask)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (tmp_path / "b").stat().st_mode & 0o777 == mode
