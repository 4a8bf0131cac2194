"""The two file servers that are compared: a vdifs mount, and the FUSE export of qemu-storage-daemon.

The kernel reads as far ahead in either as it does in a mount of vdifs that nobody has told otherwise. Only root may set
that: without, it reads 128 KiB ahead in both.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contest import SkippedError
from benchmarks.processes import Daemon, FailedError, daemon

__all__ = [
    "READ_AHEAD_KIB",
    "VDIFS",
    "detach",
    "needs_storage_daemon",
    "set_read_ahead",
    "storage_daemon",
    "vdifs_mount",
]

VDIFS = Path(sys.executable).with_name("vdifs")
READ_AHEAD_KIB = 1024
"""What `vdifs mount` sets, docs/specification.md 3."""
_PATIENCE_S = 60.0


@contextmanager
def vdifs_mount(source: Path, mountpoint: Path, *options: str) -> Iterator[Daemon]:
    """Mount the folder `source` at `mountpoint`, which is made."""
    mountpoint.mkdir(exist_ok=True)
    try:
        with daemon(
            VDIFS, "mount", "-f", *options, source, mountpoint, answers=lambda: os.path.ismount(mountpoint)
        ) as server:
            os.listdir(mountpoint)
            _await_read_ahead(mountpoint)
            yield server
    finally:
        detach(mountpoint)


def needs_storage_daemon() -> None:
    """Raise SkippedError where there is none."""
    if shutil.which("qemu-storage-daemon") is None:
        raise SkippedError("there is no qemu-storage-daemon: install qemu-system-common")


@contextmanager
def storage_daemon(image: Path, mountpoint: Path) -> Iterator[Daemon]:
    """Show the guest contents of `image`, a qcow2, as the file `mountpoint`, which is made."""
    mountpoint.touch()
    device = mountpoint.stat().st_dev

    def answers() -> bool:
        try:
            return mountpoint.stat().st_dev != device
        except OSError:
            return False  # it is being mounted

    command = [
        *("qemu-storage-daemon", "--blockdev", f"driver=file,node-name=file,filename={image},read-only=on"),
        *("--blockdev", "driver=qcow2,node-name=disk,file=file,read-only=on"),
        *("--export", f"type=fuse,id=export,node-name=disk,mountpoint={mountpoint},writable=off"),
    ]
    try:
        with daemon(*command, answers=answers) as server:
            set_read_ahead(mountpoint)
            yield server
    finally:
        detach(mountpoint)


def set_read_ahead(mountpoint: Path) -> None:
    """Have the kernel read as far ahead in a mount, which must have answered before, as in one of vdifs."""
    setting = _read_ahead_of(mountpoint)
    if os.access(setting, os.W_OK):
        setting.write_text(str(READ_AHEAD_KIB))


def _await_read_ahead(mountpoint: Path) -> None:
    """Wait until vdifs has set it: it does so after its first answer. Raises FailedError if it does not."""
    setting = _read_ahead_of(mountpoint)
    if not os.access(setting, os.W_OK):
        return  # vdifs may not set it either
    deadline = time.monotonic() + _PATIENCE_S
    while (found := int(setting.read_text())) != READ_AHEAD_KIB:
        if time.monotonic() > deadline:
            raise FailedError(f"the kernel reads {found} KiB ahead in the mount instead of {READ_AHEAD_KIB}")
        time.sleep(0.005)


def _read_ahead_of(mountpoint: Path) -> Path:
    device = mountpoint.stat().st_dev
    return Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")


def detach(mountpoint: Path) -> None:
    """Take away a mount that its daemon could not."""
    for command in (["umount", "-l"], ["fusermount3", "-uz"]):
        if not _is_mounted(mountpoint):
            return
        subprocess.run([*command, str(mountpoint)], check=False, capture_output=True)


def _is_mounted(path: Path) -> bool:
    """Whether it is in the table of mounts: asking the path itself hangs or fails where the daemon is gone."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return any(line.split()[4] == str(path).replace(" ", "\\040") for line in lines)
