"""File systems on loop devices, for rows that are about a certain one."""

import os
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contest import SkippedError
from benchmarks.processes import FailedError, run

__all__ = ["loop_filesystem"]


def loop_filesystem(folder: Path, size: int, make: tuple[str, ...], stack: ExitStack) -> Path:
    """Mount a new file system of `size` bytes, which `make` makes, at `folder`; the stack takes all of it away.

    Raises SkippedError where that is not possible.
    """
    if os.geteuid() != 0:
        raise SkippedError("a file system on a loop device needs root")
    disk = folder.with_suffix(".disk")
    stack.callback(disk.unlink, missing_ok=True)
    with open(disk, "wb") as file:
        file.truncate(size)
    run(*make, disk)
    folder.mkdir(exist_ok=True)
    try:
        run("mount", "-o", "loop,discard", disk, folder)
    except FailedError as error:
        raise SkippedError(f"no loop device could be mounted: {error}") from error
    stack.callback(run, "umount", folder)
    return folder
