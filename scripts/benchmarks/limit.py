"""The limit beside what is measured: `flat.c`, a server that does nothing but read one finished file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contest import SkippedError
from benchmarks.processes import Daemon, FailedError, daemon, output_of, run
from benchmarks.servers import detach, set_read_ahead
from benchmarks.sizes import KIB

__all__ = ["DISK", "LARGE_READS", "best_threads", "flat_mount", "flat_program"]

DISK = "disk"
"""What the served file is called."""
LARGE_READS = 2
"""Threads it is best with where reads are large."""
_SOURCE = Path(__file__).with_name("flat.c")


def best_threads(block: int) -> int:
    """Return with how many threads it answers most reads of `block` bytes: to wake another costs more than 4 KiB do."""
    return LARGE_READS if block > 4 * KIB else 1


def flat_program(folder: Path) -> Path:
    """Return the server, which is compiled into `folder` when it is first asked for.

    Raises SkippedError where there is no compiler or no libfuse to build with, FailedError where it cannot be compiled.
    """
    program = folder / "flat"
    if program.exists():
        return program
    for needed, package in ("cc", "gcc"), ("pkg-config", "pkg-config"):
        if shutil.which(needed) is None:
            raise SkippedError(f"the limit is not compiled, as there is no {needed}: install {package}")
    try:
        flags = output_of("pkg-config", "--cflags", "--libs", "fuse3").decode().split()
    except FailedError as error:
        raise SkippedError("the limit is not compiled, as there is no libfuse for it: install libfuse3-dev") from error
    made = program.with_suffix(".new")
    run("cc", "-O2", "-o", made, _SOURCE, *flags)
    made.rename(program)
    return program


@contextmanager
def flat_mount(program: Path, file: Path, folder: Path, threads: int) -> Iterator[Daemon]:
    """Show `file` as DISK in `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    try:
        with daemon(program, file, folder, str(threads), answers=lambda: os.path.ismount(folder)) as server:
            set_read_ahead(folder)
            yield server
    finally:
        detach(folder)
