"""Files that could not be opened, and why: shown as broken, and not tried again at every look."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vdifs.errors import FormatError, VdifsError
from vdifs.mount.nodes import ImageFile

__all__ = ["Failures"]

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Failure:
    file: ImageFile
    error: VdifsError
    at: float = field(default_factory=time.monotonic)


class Failures:
    """Why files could not be opened, by inode number."""

    def __init__(self) -> None:
        self._failures: dict[int, _Failure] = {}

    def add(self, inode: int, file: ImageFile, error: VdifsError) -> None:
        """Remember that opening `file` failed."""
        self._failures[inode] = _Failure(file, error.bare())

    def remove(self, inode: int) -> None:
        """Forget about it: it could be opened."""
        self._failures.pop(inode, None)

    def standing(self, inode: int) -> VdifsError | None:
        """Return why the file still cannot be opened, None if it is worth a try.

        Bad bytes stay bad, as other bytes are another inode; a disk that failed, or a file in use, may be well again.
        """
        failure = self._failures.get(inode)
        if failure is None:
            return None
        lasting = isinstance(failure.error, FormatError) or time.monotonic() - failure.at < RETRY_S
        return failure.error if lasting else None

    def keep(self, wanted: Callable[[int, ImageFile], bool]) -> None:
        """Forget those of which wanted(inode, file) is false."""
        self._failures = {inode: each for inode, each in self._failures.items() if wanted(inode, each.file)}

    def items(self) -> list[tuple[ImageFile, VdifsError]]:
        """Return the files and what is wrong with them."""
        return [(failure.file, failure.error) for failure in self._failures.values()]
