"""Folders that are taken away whatever is mounted or open in them."""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["detach", "mounted_beneath", "remove"]


def mounted_beneath(folder: Path) -> list[Path]:
    """Return the mountpoints at and beneath a folder, the inner ones first.

    From the table of mounts: asking the paths themselves hangs or fails where a daemon is gone.
    """
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    return sorted((point for point in points if folder in (point, *point.parents)), reverse=True)


def detach(mountpoint: Path) -> None:
    """Take away a mount whose daemon could not, or did not."""
    for command in (["umount", "-l"], ["fusermount3", "-uz"]):
        if mountpoint not in mounted_beneath(mountpoint):
            return
        subprocess.run([*command, str(mountpoint)], check=False, capture_output=True)


def remove(folder: Path) -> None:
    """Take away a folder and what is mounted in it, never what a mount shows."""
    for mountpoint in mounted_beneath(folder):
        detach(mountpoint)
    if mounted_beneath(folder):
        return  # better a folder left behind than a look into what hangs there
    if os.path.lexists(folder):
        shutil.rmtree(folder, ignore_errors=True)
