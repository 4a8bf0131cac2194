"""Every system call that would change something: `changing FOLDER` tries each and prints JSON, attempt -> answer.

The folder holds `file`, `other` and `sub/other.qcow2`.
"""

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["answers"]

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


def by_libc(name: str, *args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)


def copied_into(folder: Path) -> None:
    source = os.open(folder / "file", os.O_RDONLY)
    target = os.open(folder / "other", os.O_RDONLY)
    try:
        os.copy_file_range(source, target, 1)
    finally:
        os.close(source)
        os.close(target)


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
    "mknod of a device": lambda folder: os.mknod(folder / "new", 0o60644, os.makedev(1, 3)),
    "exchange": lambda folder: by_libc(
        "renameat2", -100, os.fsencode(folder / "file"), -100, os.fsencode(folder / "other"), 2
    ),
    "rename across folders": lambda folder: os.rename(folder / "file", folder / "sub/new"),
    "pwritev": on_descriptor(lambda descriptor: os.pwritev(descriptor, [b"x"], 0)),
    "punch a hole": on_descriptor(
        lambda descriptor: by_libc("fallocate", descriptor, 3, ctypes.c_long(0), ctypes.c_long(1))
    ),
    "copy into": copied_into,
    "sendfile into": on_descriptor(lambda descriptor: os.sendfile(descriptor, descriptor, 0, 1)),
    "fchown": on_descriptor(lambda descriptor: os.fchown(descriptor, 1, 1)),
    "futimens": on_descriptor(os.utime),
    "fsetxattr": on_descriptor(lambda descriptor: os.setxattr(descriptor, "user.x", b"y")),
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


if __name__ == "__main__":
    json.dump(answers(Path(sys.argv[1])), sys.stdout)
