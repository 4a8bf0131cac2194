"""A file that is watched as a member of a chain is, and programs that write it, openly or not."""

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.stamps import stamped
from vdifs.errors import SourceChangedError
from vdifs.storage.host_file import HostFile

MIB = 1 << 20


@contextmanager
def watched(path: Path) -> Iterator[HostFile]:
    """Open a file as a member of a chain is opened."""
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    try:
        file.watch()
        file.settle()
        file.check_no_writer()
        yield file
    finally:
        file.close()


def is_unchanged(file: HostFile) -> bool:
    try:
        file.check_unchanged()
    except SourceChangedError:
        return False
    return True


def set_back(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write(path: Path, generation: int = 2, offset: int = 0, length: int = 4096) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(stamped(offset, length, generation))


def write_by_a_mapping_alone(path: Path) -> None:
    """As a program that has closed its descriptor, and ends."""
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[:4096] = stamped(0, 4096, 2)
    mapped.close()


def link(path: Path) -> None:
    path.with_name("link").hardlink_to(path)


def is_noticed(path: Path, change: Callable[[Path], None], disguise: Callable[[Path], None]) -> bool:
    """Tell whether a change is seen, and remains so, once the old mtime is set again and `disguise` has moved ctime."""
    with watched(path) as file:
        before = path.stat()
        change(path)
        set_back(path, before)
        disguise(path)
        return not is_unchanged(file) and not is_unchanged(file)


@contextmanager
def program(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run Python code that prints a line when it is ready, until it is told to end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str]) -> None:
    """Let the program go on to its next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "ready\n"


MAPPING = """
import mmap, os, sys
from tests.support.stamps import stamped
descriptor = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(descriptor, 0)
os.close(descriptor)
mapped[:] = stamped(0, len(mapped), 1)
print("ready", flush=True)
for generation in range(2, 100):
    input()
    mapped[len(mapped) // 2:] = stamped(len(mapped) // 2, len(mapped) // 2, generation)
    print("ready", flush=True)
"""


READS_FIRST = MAPPING.replace("mapped[:] = stamped(0, len(mapped), 1)", "sum(mapped[::4096])")
