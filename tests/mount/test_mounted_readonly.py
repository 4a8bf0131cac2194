"""Whatever would change something fails, with the errno that an ext4 mounted read-only gives."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount.mounting import Mounted, Mounts

Attempt = Callable[[Path], object]


def opened(flags: int) -> Attempt:
    return lambda folder: os.close(os.open(folder / "file", flags))


def on_descriptor(action: Callable[[int], object]) -> Attempt:
    def attempt(folder: Path) -> None:
        descriptor = os.open(folder / "file", os.O_RDONLY)
        try:
            action(descriptor)
        finally:
            os.close(descriptor)

    return attempt


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


ATTEMPTS: dict[str, Attempt] = {
    "open for writing": opened(os.O_WRONLY),
    "open for both": opened(os.O_RDWR),
    "open to truncate": opened(os.O_RDONLY | os.O_TRUNC),
    "open to append": opened(os.O_WRONLY | os.O_APPEND),
    "create": lambda folder: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
    "create what is there": lambda folder: os.open(folder / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "create for reading": lambda folder: os.open(folder / "new", os.O_CREAT | os.O_RDONLY),
    "temporary file": lambda folder: os.open(folder, os.O_TMPFILE | os.O_RDWR),
    "truncate": lambda folder: os.truncate(folder / "file", 0),
    "unlink": lambda folder: os.unlink(folder / "file"),
    "unlink nothing": lambda folder: os.unlink(folder / "nothing"),
    "mkdir": lambda folder: os.mkdir(folder / "new"),
    "rmdir": lambda folder: os.rmdir(folder / "sub"),
    "rename": lambda folder: os.rename(folder / "file", folder / "new"),
    "rename over": lambda folder: os.rename(folder / "file", folder / "other"),
    "link": lambda folder: os.link(folder / "file", folder / "new"),
    "symlink": lambda folder: os.symlink("file", folder / "new"),
    "mkfifo": lambda folder: os.mkfifo(folder / "new"),
    "chmod": lambda folder: os.chmod(folder / "file", 0o777),
    "chown": lambda folder: os.chown(folder / "file", 1, 1),
    "utime": lambda folder: os.utime(folder / "file"),
    "setxattr": lambda folder: os.setxattr(folder / "file", "user.x", b"y"),
    "removexattr": lambda folder: os.removexattr(folder / "file", "user.vdifs.etag"),
    "write": on_descriptor(lambda descriptor: os.write(descriptor, b"x")),
    "ftruncate": on_descriptor(lambda descriptor: os.ftruncate(descriptor, 0)),
    "fallocate": on_descriptor(lambda descriptor: os.posix_fallocate(descriptor, 0, 1)),
    "fchmod": on_descriptor(lambda descriptor: os.fchmod(descriptor, 0o777)),
    "fsync": on_descriptor(os.fsync),
    "fsync of the folder": fsync_folder,
}


def answers(folder: Path) -> dict[str, str]:
    """What each attempt gives: the name of an errno, or "done"."""
    found = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt(folder)
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
        else:
            found[name] = "done"
    return found


@pytest.fixture
def mounted(mounts: Mounts, source: Path) -> Mounted:
    (source / "sub").mkdir()
    os.rename(source / "base.qcow2", source / "file")
    (source / "sub/other.qcow2").write_bytes((source / "file").read_bytes())
    (source / "other").write_bytes((source / "file").read_bytes())
    for name in ("monday.qcow2", "tuesday.qcow2"):
        (source / name).unlink()
    return mounts(source)


@pytest.fixture
def ext4(mounts: Mounts) -> Iterator[Path]:
    """A folder on an ext4 that is mounted read-only, with the same names in it."""
    contents, image, folder = (mounts.scratch / name for name in ("contents", "image", "ext4"))
    (contents / "sub").mkdir(parents=True)
    folder.mkdir()
    for name in ("file", "other", "sub/other.qcow2"):
        (contents / name).write_bytes(b"x" * 5000)
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([require_tool("mke2fs"), "-q", "-t", "ext4", "-d", contents, image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "ro,loop", image, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr}")
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=30)


@pytest.mark.usefixtures("root_only")
def test_every_attempt_gives_what_a_read_only_ext4_gives(mounted: Mounted, ext4: Path) -> None:
    assert answers(mounted / "full") == answers(ext4)


def test_every_attempt_fails_and_changes_nothing(mounted: Mounted, source: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in source.rglob("*")}
    contents = (source / "file").read_bytes()
    found = answers(mounted / "full")
    assert {name for name, answer in found.items() if answer == "done"} == {"fsync", "fsync of the folder"}
    assert (source / "file").read_bytes() == contents
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in source.rglob("*")} == before
