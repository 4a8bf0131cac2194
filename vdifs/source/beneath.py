"""Opening a file strictly beneath a directory: openat2(2), which Python's os module does not have, by ctypes.

Where the kernel lacks it, every component is opened in turn without following links.
"""

import ctypes
import errno
import os
import stat
from typing import Final

__all__ = ["open_beneath"]

_SYS_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


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
    how = _OpenHow(flags, 0, _RESOLVE)
    name = os.fsencode(path)
    while True:
        fd: int = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(name),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)


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
