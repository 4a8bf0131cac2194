"""File systems on loop devices: new ones, for rows that are about a certain one, and those within a disk."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.contest import SkippedError
from benchmarks.processes import FailedError, run

__all__ = ["loop_filesystem", "loop_mounted", "needs_loop"]

_PATIENCE_S = 60.0


def needs_loop() -> None:
    """Raise SkippedError where no loop device may be mounted."""
    if os.geteuid() != 0:
        raise SkippedError("a file system on a loop device needs root")


@contextmanager
def loop_mounted(disk: Path, folder: Path) -> Iterator[Path]:
    """Mount the file system within `disk`, which is only read, at `folder`. Raises FailedError."""
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop,ro,noload", disk, folder)
    try:
        yield folder
    finally:
        _unmount(folder)


def loop_filesystem(folder: Path, size: int, make: tuple[str, ...], stack: ExitStack) -> Path:
    """Mount a new file system of `size` bytes, which `make` makes, at `folder`; the stack takes all of it away.

    Raises SkippedError where that is not possible.
    """
    needs_loop()
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
    stack.callback(_unmount, folder)
    return folder


def _unmount(folder: Path) -> None:
    """Unmount once no process has a file of it open any more: a process may still be ending. Raises FailedError."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return run("umount", folder)
        except FailedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
