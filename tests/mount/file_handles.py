"""File handles: what an NFS server keeps of a file instead of a name (name_to_handle_at(2), open_by_handle_at(2))."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100


class FileHandle(ctypes.Structure):
    """struct file_handle, with room for the longest."""

    _fields_ = (("handle_bytes", ctypes.c_uint), ("handle_type", ctypes.c_int), ("f_handle", ctypes.c_ubyte * 128))


_libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path: Path) -> FileHandle:
    handle, mount_id = FileHandle(128), ctypes.c_int()
    failed = _libc.name_to_handle_at(_AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return handle


@contextmanager
def opened(mountpoint: Path, handle: FileHandle) -> Iterator[int]:
    """Open what the handle stands for. Only root may."""
    folder = os.open(mountpoint, os.O_RDONLY)
    try:
        descriptor = _libc.open_by_handle_at(folder, ctypes.byref(handle), os.O_RDONLY)
    finally:
        os.close(folder)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
