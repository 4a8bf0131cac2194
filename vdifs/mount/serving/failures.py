"""Files that could not be opened, and why: shown as broken, and not tried again at every look."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from vdifs.errors import FormatError, VdifsError
from vdifs.mount.view.nodes import ImageFile

__all__ = ["Failures"]

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Failure:
    file: ImageFile
    error: VdifsError
    at: float = field(default_factory=time.monotonic)

    @property
    def refuses(self) -> bool:
        """Whether it tells what is wrong with the images.

        A file that was there in the last search and cannot be opened does not: its folder may be in trouble.
        """
        return not (self.error.passing or self.error.unreachable)

    @property
    def refuses_image(self) -> bool:
        """Whether all files of the image are refused with it."""
        return self.file.base is None and self.refuses


class Failures:
    """Why files could not be opened, by inode number."""

    def __init__(self) -> None:
        self._failures: dict[int, _Failure] = {}
        self._images = Counter[str]()

    def __len__(self) -> int:
        return len(self._failures)

    def add(self, inode: int, file: ImageFile, error: VdifsError) -> None:
        """Remember that opening `file` failed."""
        self._put(inode, _Failure(file, error.bare()))

    def note(self, inode: int, file: ImageFile, error: VdifsError) -> None:
        """Remember the same of a file that no user asked for: what may pass keeps none from trying it."""
        self._put(inode, _Failure(file, error.bare(), -math.inf))

    def _put(self, inode: int, failure: _Failure) -> None:
        self.remove(inode)
        self._failures[inode] = failure
        if failure.refuses_image:
            self._images[failure.file.path] += 1

    def remove(self, inode: int) -> None:
        """Forget about it: it could be opened."""
        failure = self._failures.pop(inode, None)
        if failure is not None and failure.refuses_image:
            self._images[failure.file.path] -= 1
            if not self._images[failure.file.path]:
                del self._images[failure.file.path]

    def refuses(self, inode: int) -> bool:
        """Tell whether the file failed, however long ago, for what is wrong with its images."""
        failure = self._failures.get(inode)
        return failure is not None and failure.refuses

    def refuses_image(self, path: str) -> bool:
        """Tell whether the image `path` alone, and so each of its files, failed for what is wrong with its chain."""
        return path in self._images

    def due(self) -> list[int]:
        """Return the numbers of the files that are worth another try."""
        return [inode for inode in self._failures if self.standing(inode) is None]

    def forget_passing(self, path: str) -> None:
        """Forget all of the image `path` but bad bytes: it could be opened."""
        self.keep(lambda inode, file: file.path != path or isinstance(self._failures[inode].error, FormatError))

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
        for inode in [inode for inode, each in self._failures.items() if not wanted(inode, each.file)]:
            self.remove(inode)

    def items(self) -> list[tuple[ImageFile, VdifsError]]:
        """Return the files and what is wrong with them."""
        return [(failure.file, failure.error) for failure in self._failures.values()]
