"""A trusted directory: held open, and looked at again by its name, as another folder may have taken its place."""

import errno
import os
from typing import Self

from vdifs.errors import StorageError

__all__ = ["Root"]

_HELD = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_REPLACED = "another folder has taken its place, which this mount may not read"
_REMEDIES = {
    errno.ENOENT: "it was removed, renamed or unmounted: put it back, or unmount and mount another one",
    errno.ENOTDIR: "put the directory back, or unmount and mount another one",
    errno.EACCES: "make it readable again for this user",
}


class Root:
    """A directory, open. typed: its absolute path as the user gave it. resolved: the same without symbolic links.

    fd: its descriptor, one number for good, whatever folder it stands for. The folder is held, so that no other one
    gets its inode number.
    """

    __slots__ = ("_before", "_identity", "fd", "resolved", "typed")

    def __init__(self, fd: int, typed: str, resolved: str) -> None:
        """Take over `fd`."""
        self.fd = fd
        self.typed = typed
        self.resolved = resolved
        self._identity = _identity(os.fstat(fd))
        self._before: tuple[int, str] | None = None  # a descriptor of the folder, and its name as in `resolved`

    @classmethod
    def open(cls, directory: str) -> Self:
        """Open `directory`. Raises StorageError."""
        try:
            fd = os.open(directory, _HELD)
        except OSError as error:
            raise StorageError.from_os(directory, error, "name an existing directory") from error
        resolved = os.path.realpath(directory)
        plain = ".." not in directory.split("/")  # behind a link, `..` is not what abspath takes it for
        return cls(fd, os.path.abspath(directory) if plain else resolved, resolved)

    def close(self) -> None:
        """Close the directory."""
        self.settle(stay=True)
        os.close(self.fd)

    def below(self, absolute: str) -> str | None:
        """Return the part of `absolute` beneath this directory, None if it is not beneath it."""
        for root in (self.typed, self.resolved):
            prefix = root.rstrip("/") + "/"
            if absolute.startswith(prefix) and absolute != prefix:
                return absolute[len(prefix) :].lstrip("/")
        return None

    def look_again(self) -> StorageError | None:
        """Go over to the folder that the name leads to now; return why that cannot be done, None if all is well.

        `settle` must follow. May block. A folder that was unmounted, mounted over, renamed away or replaced is another
        folder, and so is what a link was switched to. The rules of Landlock are about the first one: of another nothing
        may be read.
        """
        try:
            there = os.stat(self.typed)
        except OSError as error:
            return self._trouble(error)
        if _identity(there) == self._identity:
            return None
        try:
            os.close(os.open(self.typed, _READABLE))
            self._go_over()
        except PermissionError:
            return StorageError(_REPLACED, where=self.typed, remedy="unmount, then mount again", errno=errno.EIO)
        except OSError as error:
            return self._trouble(error)
        return None

    def settle(self, *, stay: bool) -> None:
        """Let go of the folder that was held before the last look; stay=False: go back to it, and let go of the new.

        A folder that is not wanted is not held: nothing else could be unmounted from its place.
        """
        before, self._before = self._before, None
        if before is None:
            return
        fd, resolved = before
        try:
            if not stay:
                self._stand_for(fd)
                self.resolved = resolved
        finally:
            os.close(fd)

    def _go_over(self) -> None:
        self.settle(stay=True)
        fd = os.open(self.typed, _HELD)
        try:
            self._before = os.dup(self.fd), self.resolved
            self._stand_for(fd)
        finally:
            os.close(fd)
        self.resolved = os.path.realpath(self.typed)

    def _stand_for(self, fd: int) -> None:
        """Have the descriptor stand for the folder `fd`. Its number stays: other threads may be using it."""
        os.dup2(fd, self.fd, inheritable=False)
        self._identity = _identity(os.fstat(fd))

    def _trouble(self, error: OSError) -> StorageError:
        remedy = _REMEDIES.get(error.errno or 0, "check the disk or server below it")
        return StorageError(f"{error.strerror or error}", where=self.typed, remedy=remedy, errno=errno.EIO)


def _identity(st: os.stat_result) -> tuple[int, int]:
    return st.st_dev, st.st_ino
