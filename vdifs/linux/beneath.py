"""Opening a file strictly beneath a directory: openat2(2), which Python's os module does not have.

Where the kernel lacks it, every component is opened in turn without following links.
"""

import errno
import os
import stat
import struct
from typing import Final

from vdifs.linux.libc import system_call

__all__ = ["open_beneath"]

_SYS_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS


_OPEN_HOW: Final = struct.Struct("QQQ")  # flags, mode, resolve


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Open `path` relative to the descriptor `directory`, never above it and through no symbolic link.

    Raises OSError: EXDEV where the path leads out, ELOOP where a component is a link.
    """
    flags |= os.O_NOFOLLOW
    try:
        return _openat2(directory, path, flags)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return _walk(directory, path, flags)


def _openat2(directory: int, path: str, flags: int) -> int:
    how, name = _OPEN_HOW.pack(flags, 0, _RESOLVE), os.fsencode(path)
    while True:
        try:
            return system_call(_SYS_OPENAT2, directory, name, how, len(how))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                error.filename = path
                raise


def _walk(directory: int, path: str, flags: int) -> int:
    """Do the same one component at a time; `..` pops the descriptor it came from."""
    if path.startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    if path.endswith(("/", "/.")):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    *folders, name = [part for part in path.split("/") if part not in ("", ".")] or ["."]
    held: list[int] = []
    try:
        for part in folders:
            if part == "..":
                if not held:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
                os.close(held.pop())
            else:
                where = held[-1] if held else directory
                held.append(_open_folder(part, where))
        if name == "..":
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return os.open(name, flags, dir_fd=held[-1] if held else directory)
    finally:
        for fd in held:
            os.close(fd)


def _open_folder(name: str, directory: int) -> int:
    try:
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise
