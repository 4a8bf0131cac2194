"""Ctrl-C at any moment: status 130, one line, no traceback, and nothing is left."""

import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import run_process
from tests.mount.conftest import require_fuse
from tests.mount.mounting import PATIENCE_S, eventually, is_mounted
from tests.qemu import oracle

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
    oracle.create("image.qcow2", 16 << 20, cwd=tmp_path)
    oracle.qemu_io("image.qcow2", ["write -P 1 0 4M"], cwd=tmp_path)
    (tmp_path / "mnt").mkdir()
    yield tmp_path
    if is_mounted(tmp_path / "mnt"):
        run_process("umount", tmp_path / "mnt")


def has_begun(process: "subprocess.Popen[bytes]") -> bool:
    """Whether its first lines have run: what Python does before them is not ours. They ignore SIGUSR1."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    ignored = next((int(line.split()[1], 16) for line in lines if line.startswith("SigIgn")), 0)
    return bool(ignored >> (signal.SIGUSR1 - 1) & 1) or process.poll() is not None


def interrupted(folder: Path, name: str, delay: float) -> int:
    """Interrupt a command `delay` seconds after its first line; return its status, having seen that all is well."""
    script, *words = COMMANDS[name]
    with subprocess.Popen(
        [SCRIPTS / script, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        eventually(lambda: has_begun(process))
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert b"Traceback" not in said, said
    if process.returncode == 128 + signal.SIGINT:
        assert said.splitlines()[-1] == b"vdifs: interrupted"
        assert not is_mounted(folder / "mnt")
        assert not [left for left in os.listdir(folder) if left.endswith(".part")]
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
