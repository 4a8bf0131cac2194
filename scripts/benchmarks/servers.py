"""The two file servers that are compared: a vdifs mount, and the FUSE export of qemu-storage-daemon."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import Daemon, daemon

__all__ = ["VDIFS", "storage_daemon", "vdifs_mount"]

VDIFS = Path(sys.executable).with_name("vdifs")


@contextmanager
def vdifs_mount(source: Path, mountpoint: Path) -> Iterator[Daemon]:
    """Mount the folder `source` at `mountpoint`, which is made."""
    mountpoint.mkdir(exist_ok=True)
    try:
        with daemon(VDIFS, "mount", "-f", source, mountpoint, answers=lambda: os.path.ismount(mountpoint)) as server:
            os.listdir(mountpoint)
            yield server
    finally:
        _detach(mountpoint)


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
            yield server
    finally:
        _detach(mountpoint)


def _detach(mountpoint: Path) -> None:
    """Take away a mount that its daemon could not."""
    for command in (["umount", "-l"], ["fusermount3", "-uz"]):
        if not _is_mounted(mountpoint):
            return
        subprocess.run([*command, str(mountpoint)], check=False, capture_output=True)


def _is_mounted(path: Path) -> bool:
    """Whether it is in the table of mounts: asking the path itself hangs or fails where the daemon is gone."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return any(line.split()[4] == str(path).replace(" ", "\\040") for line in lines)
