"""Disks that a test mounts with mount(8): made in a file, copied while at rest, mounted under another number."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import cannot_be_tried, require_tool
from tests.mount.mounting import Mounts, umount_disk

MIB = 1 << 20


def make_disk(image: Path, kind: str, size: int) -> Path:
    """Make an empty file system of that kind in the file `image`, and return it."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([require_tool(f"mkfs.{kind}"), "-q", image], check=True, capture_output=True)
    return image


@contextmanager
def disk_mounted(mounts: Mounts, image: Path, folder: Path, options: Sequence[str] = ("loop",)) -> Iterator[Path]:
    """Have the disk in `image` mounted at `folder`, which is made if need be. Every mount of vdifs ends before it."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", ",".join(options), image, folder], capture_output=True, text=True)
    if done.returncode:
        cannot_be_tried(f"no loop device can be mounted here: {done.stderr.strip()}")
    folder.chmod(0o755)
    problems = []
    try:
        yield folder
    finally:
        problems = mounts.end_all()
        umount_disk(folder)
    assert problems == []
