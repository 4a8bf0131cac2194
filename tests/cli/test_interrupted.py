"""Ctrl-C at any moment, while Python itself starts too: status 130, one line, no traceback, and nothing is left."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import run_process
from tests.conftest import cannot_be_tried
from tests.mount.conftest import require_fuse
from tests.mount.mounting import PATIENCE_S, eventually, is_mounted, supervisor_of
from tests.support import oracle
from tests.support.builder import make

SCRIPTS = Path(sysconfig.get_path("scripts"))
COMMANDS = {
    "list": ["vdifs", "list", "."],
    "info": ["vdifs", "info", "image.qcow2"],
    "map": ["vdifs", "map", "image.qcow2"],
    "measure": ["vdifs", "measure", "image.qcow2"],
    "check": ["vdifs", "check", "."],
    "export": ["vdifs", "export", "image.qcow2", "output.qcow2", "--force"],
    "status": ["vdifs", "status", "."],
    "doctor": ["vdifs", "doctor"],
    "completion": ["vdifs", "completion", "bash"],
    "help": ["vdifs", "help", "--man"],
    "umount": ["vdifs", "umount", "."],
    "mount": ["vdifs", "mount", ".", "mnt"],
    "mount in the foreground": ["vdifs", "mount", "-f", ".", "mnt"],
    "mount.fuse.vdifs": ["mount.fuse.vdifs", ".", "mnt", "-o", "ro"],
}
FAILS = ("status", "umount")
"""Which name no mount here: they end with 1 where the signal comes too late."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with an image and a mountpoint."""
    require_fuse()
    make(tmp_path / "image.qcow2", 16 << 20)
    oracle.qemu_io("image.qcow2", ["write -P 1 0 4M"], cwd=tmp_path)
    (tmp_path / "mnt").mkdir()
    yield tmp_path
    if is_mounted(tmp_path / "mnt"):
        run_process("umount", tmp_path / "mnt")


@pytest.fixture
def early(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which each Python sends itself SIGINT while it starts, before it runs a line of ours."""
    if subprocess.run(["/usr/bin/env", "--block-signal=INT", "--version"], capture_output=True).returncode:
        cannot_be_tried("env is older than coreutils 8.31, or not theirs: it cannot have a signal wait")
    folder = tmp_path_factory.mktemp("early")
    (folder / "sitecustomize.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(":")}


def has_begun(process: "subprocess.Popen[bytes]") -> bool:
    """Whether its first lines have run. They ignore SIGUSR1."""
    return process.poll() is not None or bool(int(field(process.pid, "SigIgn"), 16) >> (signal.SIGUSR1 - 1) & 1)


def interrupted(folder: Path, name: str, delay: float, *, begun: bool = True) -> int:
    """Interrupt a command `delay` seconds after its first line; return its status, having seen that all is well.

    begun: False for so many seconds after it was started.
    """
    script, *words = COMMANDS[name]
    with subprocess.Popen(
        [SCRIPTS / script, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        eventually(lambda: not begun or has_begun(process))
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert b"Traceback" not in said, said
    if process.returncode == 128 + signal.SIGINT:
        assert said.splitlines()[-1] == b"vdifs: interrupted"
        assert not is_mounted(folder / "mnt")
        assert not [left for left in os.listdir(folder) if left.endswith(".part")]
    elif process.returncode == -signal.SIGINT:  # which shells call 130 too
        assert not begun
        assert said == b""
    else:
        assert process.returncode == (1 if name in FAILS else 0), said
    return process.returncode


def lifetime(folder: Path, name: str) -> float:
    """Return how long a command takes from its first line on, or until a mount in the foreground answers."""
    script, *words = COMMANDS[name]
    with subprocess.Popen(
        [SCRIPTS / script, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        eventually(lambda: has_begun(process))
        began = time.monotonic()
        eventually(lambda: process.poll() is not None or ("-f" in words and is_mounted(folder / "mnt")))
        took = time.monotonic() - began
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    if is_mounted(folder / "mnt"):
        assert run_process("umount", folder / "mnt").returncode == 0
    return took


def sweep(folder: Path, name: str, moments: int) -> None:
    """Interrupt a command at so many moments of its life."""
    took = lifetime(folder, name)
    statuses = []
    for moment in range(moments):
        statuses.append(interrupted(folder, name, took * moment / moments))
        if is_mounted(folder / "mnt"):  # it was too late
            assert run_process("umount", folder / "mnt").returncode == 0
    assert statuses[0] == 128 + signal.SIGINT


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_interrupted_leaves_nothing(folder: Path, name: str) -> None:
    sweep(folder, name, 6 if "mnt" in COMMANDS[name] else 3)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_interrupted_while_python_starts(folder: Path, name: str, early: dict[str, str]) -> None:
    script, *words = COMMANDS[name]
    done = subprocess.run([SCRIPTS / script, *words], cwd=folder, env=early, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"vdifs: interrupted\n")
    assert not is_mounted(folder / "mnt")


@pytest.mark.parametrize("name", ["list", "mount", "mount.fuse.vdifs"])
def test_a_command_that_is_interrupted_in_each_of_its_first_milliseconds(
    folder: Path, name: str, early: dict[str, str]
) -> None:
    del early  # only that it can be tried
    for milliseconds in range(61):
        interrupted(folder, name, milliseconds / 1000, begun=False)
        if is_mounted(folder / "mnt"):  # it was too late
            assert run_process("umount", folder / "mnt").returncode == 0


def test_a_command_whose_caller_ignores_ctrl_c_is_not_interrupted(folder: Path, early: dict[str, str]) -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    done = subprocess.run(
        [*ignoring, SCRIPTS / "vdifs", "list", "."], cwd=folder, env=early, capture_output=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"image.qcow2" in done.stdout


def test_a_command_whose_caller_has_blocked_ctrl_c_is_interrupted(folder: Path, early: dict[str, str]) -> None:
    blocking = ["/usr/bin/env", "--block-signal=INT"]
    done = subprocess.run([*blocking, SCRIPTS / "vdifs", "list", "."], cwd=folder, env=early, capture_output=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, b"vdifs: interrupted\n")


def test_what_a_command_starts_has_ctrl_c_not_blocked(tmp_path: Path) -> None:
    program, seen = tmp_path / "fusermount3", tmp_path / "seen"
    lines = f"import shutil; shutil.copyfile('/proc/self/status', {str(seen)!r})"
    program.write_text(f"#!{sys.executable} -S\n{lines}\n")  # no shell, which unblocks everything
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([SCRIPTS / "vdifs", "doctor"], env=environment, capture_output=True, timeout=PATIENCE_S)
    assert "\nSigBlk:\t0000000000000000\n" in seen.read_text()


@pytest.mark.parametrize("name", ["mount in the foreground", "mount.fuse.vdifs"])
def test_a_mount_is_known_by_the_name_of_its_command_and_has_ctrl_c_not_blocked(folder: Path, name: str) -> None:
    script, *words = COMMANDS[name]
    pid_file = folder / "pid"
    with subprocess.Popen([SCRIPTS / script, *words, "-o", f"pid-file={pid_file}"], cwd=folder):
        try:
            eventually(lambda: is_mounted(folder / "mnt") and pid_file.exists() and pid_file.read_text())
            daemon = int(pid_file.read_text())
            masks = [int(field(pid, "SigBlk"), 16) for pid in (daemon, supervisor_of(daemon))]
            called = field(daemon, "Name")
            command_line = Path(f"/proc/{daemon}/cmdline").read_bytes().split(b"\0")[1:-1]
        finally:
            assert run_process("umount", folder / "mnt").returncode == 0
    assert [mask >> (signal.SIGINT - 1) & 1 for mask in masks] == [0, 0]
    assert called == script[:15]  # so much the kernel keeps; pgrep and pkill look at that
    assert command_line[: len(words) + 1] == [os.fsencode(SCRIPTS / script), *map(os.fsencode, words)]


def field(pid: int, name: str) -> str:
    """Return what the kernel says of a process; "0" where it says nothing, as of one that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "0")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_interrupted_leaves_nothing_at_a_hundred_moments(folder: Path, name: str) -> None:
    sweep(folder, name, 100)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_other_signals_that_end_a_command_that_mounts_leave_no_mount(folder: Path, number: signal.Signals) -> None:
    took = lifetime(folder, "mount")
    for moment in range(4):
        with subprocess.Popen([SCRIPTS / "vdifs", "mount", ".", "mnt"], cwd=folder, stderr=subprocess.PIPE) as process:
            eventually(lambda started=process: has_begun(started))  # type: ignore[misc]
            time.sleep(took * (moment + 1) / 5)
            process.send_signal(number)
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode in (0, -number, 128 + number)
        if process.returncode:
            assert not is_mounted(folder / "mnt")
        else:
            assert run_process("umount", folder / "mnt").returncode == 0


def test_a_command_that_is_killed_leaves_no_mount(folder: Path) -> None:
    """Where it is killed before the mount answers."""
    took = lifetime(folder, "mount")
    process = subprocess.Popen([SCRIPTS / "vdifs", "mount", folder, folder / "mnt"])
    eventually(lambda: has_begun(process))
    time.sleep(took / 2)
    process.kill()
    if process.wait(PATIENCE_S) == -signal.SIGKILL:
        eventually(lambda: not is_named_in_a_process(folder / "mnt"))
        assert not is_mounted(folder / "mnt")


def is_named_in_a_process(path: Path) -> bool:
    """Whether the command line of any process has that word."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if os.fsencode(path) in entry.read_bytes().split(b"\0"):
                return True
    return False
