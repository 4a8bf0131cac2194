"""A file that was looked at stays the same while only metadata of its sources change (docs/specification.md 5.2).

cp asks stat(2) for the inode number, opens the file, and gives up if it has another one: "replaced while being copied".
"""

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from tests.mount.mounting import Mounts, as_user
from tests.support.builder import make
from tests.support.stamps import stamped
from vdifs.mount.serving.images.open_images import IDLE_S
from vdifs.mount.serving.scanner import MAX_AGE_S
from vdifs.mount.view.attributes import TIMEOUT_S
from vdifs.mount.view.recent_inodes import KEPT_S

MIB = 1 << 20
IMAGES = 120


@contextmanager
def again_and_again(change: Callable[[], object], times_per_s: float) -> Iterator[list[float]]:
    """Have `change` called while this is entered; what is given grows by one with each call."""
    ended, calls = Event(), list[float]()

    def going() -> None:
        while not ended.wait(1 / times_per_s):
            change()
            calls.append(time.monotonic())

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(going)
        try:
            yield calls
        finally:
            ended.set()
        done.result()


def disturb(path: Path) -> None:
    """Do one of the things that libvirt and snapshot programs do to a base that machines share."""
    link = path.with_name(".link")
    if link.exists():
        link.unlink()
        os.chown(path, -1, os.getegid())
    else:
        link.hardlink_to(path)


@pytest.fixture
def base(mounts: Mounts) -> Path:
    """A base with many overlays, each of which holds a little."""
    source = mounts.scratch / "src"
    source.mkdir()
    base = source / "base.qcow2"
    make(base, MIB)
    first = source / "image000.qcow2"
    make(first, MIB, "write -P 7 0 4096", backing=("base.qcow2", "qcow2"))
    for number in range(1, IMAGES):
        shutil.copy(first, source / f"image{number:03}.qcow2")
    for image in source.iterdir():
        image.chmod(0o644)
    return base


COPIER = """
import os, sys, time
for path in sys.argv[1:]:
    began, asked = time.monotonic(), os.stat(path)
    print("asked", flush=True)
    sys.stdin.readline()
    descriptor = os.open(path, os.O_RDONLY)
    found, took = os.fstat(descriptor), time.monotonic() - began
    data = os.read(descriptor, found.st_size + 1)
    os.close(descriptor)
    same = (asked.st_ino, asked.st_size) == (found.st_ino, found.st_size) and len(data) == found.st_size
    print("late" if took > 1.5 else "same" if same else f"replaced: {asked} {found}, {len(data)} bytes", flush=True)
"""
"""Copies as cp does, and waits for a line between asking and opening."""


def test_no_file_is_replaced_whose_base_changes_metadata_between_asking_and_opening(
    mounts: Mounts, base: Path, user: int | None
) -> None:
    """Also where the image has been closed since it was looked into, so that none watches its files."""
    mounted = mounts(base.parent, user=user)
    images = [mounted / f"full/image{number:03}.qcow2" for number in range(IMAGES)]
    subprocess.run(["stat", *images], check=True, capture_output=True, **as_user(user))
    time.sleep(IDLE_S + 1)
    command = ["/usr/bin/python3", "-c", COPIER, *map(str, images[:5])]
    answers = []
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **as_user(user)) as copier:
        assert copier.stdin is not None
        assert copier.stdout is not None
        while copier.stdout.readline():
            disturb(base)
            time.sleep(MAX_AGE_S + TIMEOUT_S)  # so that the mount must have seen it
            print(file=copier.stdin, flush=True)
            answers.append(copier.stdout.readline().strip())
    assert set(answers) - {"late"} == {"same"}, answers
    assert len(answers) == 5


def test_a_hundred_copies_find_nothing_replaced_while_metadata_change_twenty_times_a_second(
    mounts: Mounts, base: Path, user: int | None
) -> None:
    mounted = mounts(base.parent, user=user)
    target = mounts.scratch / "copies"
    target.mkdir()
    target.chmod(0o777)
    images = [mounted / f"full/image{number:03}.qcow2" for number in range(IMAGES)]
    subprocess.run(["stat", *images], check=True, capture_output=True, **as_user(user))
    time.sleep(IDLE_S + 1)
    with again_and_again(lambda: disturb(base), 20) as disturbed:
        done = subprocess.run(["cp", *images, target], capture_output=True, text=True, **as_user(user))
        assert done.returncode == 0, f"disturbed {len(disturbed)} times:\n{done.stderr}"
    assert len(list(target.iterdir())) == IMAGES
    assert disturbed


@pytest.fixture
def raw(mounts: Mounts) -> Path:
    source = mounts.scratch / "src"
    source.mkdir()
    (source / "x.raw").write_bytes(stamped(0, MIB, 1))
    return source / "x.raw"


def write_in_disguise(path: Path, generation: int) -> None:
    """Write all of a file, and have it look as if only metadata had changed."""
    before = path.stat()
    with path.open("r+b", buffering=0) as file:
        file.write(stamped(0, MIB, generation))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(MAX_AGE_S + TIMEOUT_S)


def generations(data: bytes) -> set[int]:
    """Return which generations' bytes there are in stamped data."""
    return {int(head) >> 32 & 0xFFFF for head in np.unique(np.frombuffer(data, ">u8")[::2])}


def number_and_bytes(path: Path) -> tuple[int, set[int]]:
    with path.open("rb", buffering=0) as file:
        return os.fstat(file.fileno()).st_ino, generations(file.read(MIB + 1))


def test_a_number_that_is_kept_shows_nothing_of_the_earlier_bytes(mounts: Mounts, raw: Path) -> None:
    mounted = mounts(raw.parent)
    path = mounted / "raw/x.raw.raw"
    first, shown = number_and_bytes(path)
    assert shown == {1}
    write_in_disguise(raw, 2)
    assert number_and_bytes(path) == (first, {2}), "the pages of the kernel are those of generation 1, and are dropped"
    assert path.stat().st_ctime_ns == raw.stat().st_ctime_ns
    write_in_disguise(raw, 3)
    assert number_and_bytes(path) == (first, {3})
    time.sleep(KEPT_S + IDLE_S + 0.5)
    second, shown = number_and_bytes(path)
    assert shown == {3}
    assert second != first, "the next night it is another file"


def test_no_number_is_kept_while_the_earlier_state_is_open(mounts: Mounts, raw: Path) -> None:
    mounted = mounts(raw.parent)
    mounted.allow_log("changed since it was opened")
    path = mounted / "raw/x.raw.raw"
    with path.open("rb", buffering=0) as old:
        first = os.fstat(old.fileno()).st_ino
        assert generations(old.read(4096)) == {1}
        write_in_disguise(raw, 2)
        second, shown = number_and_bytes(path)
        assert shown == {2}
        assert second != first
        os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(OSError, match="Stale file handle"):
            os.pread(old.fileno(), 4096, MIB // 2)


def test_no_number_is_kept_for_a_file_of_another_size(mounts: Mounts, raw: Path) -> None:
    mounted = mounts(raw.parent)
    path = mounted / "full/x.raw.qcow2"
    before = path.stat()
    times = raw.stat()
    with raw.open("r+b", buffering=0) as file:
        subprocess.run(["fallocate", "-p", "-l", str(MIB // 2), raw], check=True)
        assert file.read(1) == b"\0"
    os.utime(raw, ns=(times.st_atime_ns, times.st_mtime_ns))
    time.sleep(MAX_AGE_S + TIMEOUT_S)
    with path.open("rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        assert found.st_size < before.st_size
        assert found.st_ino != before.st_ino
        assert len(file.read(2 * MIB)) == found.st_size
    assert path.stat().st_size == found.st_size


def test_writes_in_disguise_beside_copies_are_never_mixed(mounts: Mounts, raw: Path) -> None:
    mounted = mounts(raw.parent)
    mounted.allow_log("x.raw: ")
    path, turns = mounted / "raw/x.raw.raw", count()

    def change() -> None:
        turn = next(turns)
        if turn % 3:
            disturb(raw)
        else:
            before = raw.stat()
            with raw.open("r+b", buffering=0) as file:
                file.write(stamped(0, MIB, 1 + turn))
            os.utime(raw, ns=(before.st_atime_ns, before.st_mtime_ns))

    seen: list[set[int]] = []
    with again_and_again(change, 20) as changed:
        while len(seen) < 50 or len(changed) < 60:
            try:
                with path.open("rb", buffering=0) as file:
                    seen.append(generations(file.read(MIB // 2) + file.read(MIB // 2)))
            except OSError as error:
                assert error.errno in (errno.ESTALE, errno.EBUSY, errno.EACCES)
    assert {len(each) for each in seen} == {1}
