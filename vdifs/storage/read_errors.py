"""What is said of an open file that cannot be read."""

import errno

from vdifs.errors import StorageError, UsageError, VdifsError

__all__ = ["read_error", "was_closed"]


def was_closed(path: str) -> UsageError:
    """Return the error for a file that its user has closed."""
    return UsageError("it was closed", where=path, remedy="open the image again")


def read_error(path: str, fd: int, offset: int, error: OSError) -> VdifsError:
    """Return the error for a system call that failed. fd: that the file has now, -1 if it was closed meanwhile."""
    if fd < 0:
        return was_closed(path)
    return StorageError(
        f"reading at {offset:#x} failed: {error.strerror}",
        where=path,
        remedy="check the disk below",
        errno=errno.EIO,
        about=("reading", path),
    )
