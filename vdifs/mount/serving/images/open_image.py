"""One open image and who uses it."""

from collections.abc import Iterable
from threading import Lock

from vdifs.errors import SourceChangedError, VdifsError
from vdifs.linux.filesystems import BTRFS, EXT, XFS, filesystem_type
from vdifs.mount.view.nodes import ImageFile
from vdifs.output.image import Image

__all__ = ["OpenImage"]

_LOCAL = frozenset({EXT, XFS, BTRFS})
"""File systems where fstat and cached reads never wait. A server, or another FUSE daemon, may hang in any system call,
and the whole mount with it."""


class OpenImage:
    """An open image and the number of its users. Closed by the last user to let go, once it is retired.

    devices: the file systems it is read from. owner: of the image. on_local_disk: whether all of its files are, so that
    the event loop may make system calls on them. stale: what to answer to readers once its sources are known to have
    changed. table_bytes: of memory that its tables take. file: what was opened; generation: in which state of its
    sources. holders, used_at: for `OpenImages`, who else but threads uses it, and when it was let go of.
    """

    def __init__(
        self,
        inode: int,
        image: Image,
        devices: frozenset[int],
        owner: int = 0,
        file: ImageFile | None = None,
        generation: bytes = b"",
    ) -> None:
        """Take ownership of `image`. May block."""
        self.inode = inode
        self.image = image
        self.devices = devices
        self.file = file
        self.generation = generation
        self.owner = owner
        self.table_bytes = sum(image.tables.values())
        self.on_local_disk = _all_on_local_disk(member.file.fd for member in image.chain.members)
        self.stale: SourceChangedError | None = None
        self.holders = 0
        self.used_at = 0.0
        self._users = 0
        self._retired = False
        self._closed = False
        self._lock = Lock()  # a thread that was left behind lets go when it comes back

    @property
    def users(self) -> int:
        """How many use the image now."""
        return self._users

    @property
    def retired(self) -> bool:
        """Whether it is only kept for its present users."""
        return self._retired

    def take(self) -> None:
        """Count one user more. Raises VdifsError if the image is closed already."""
        with self._lock:
            if self._closed:
                raise VdifsError("the image was closed before it could be read", remedy="open it again")
            self._users += 1

    def drop(self) -> None:
        """Count one user less. The image stays open; `close_if_done` may follow."""
        with self._lock:
            self._users -= 1

    def retire(self) -> None:
        """Say that the image is handed out no more, so that it may be closed when its last user lets go."""
        self._retired = True

    def close_if_done(self) -> None:
        """Close the image if it is retired and has no user. May block."""
        with self._lock:
            if not self._retired or self._users or self._closed:
                return
            self._closed = True
        self.image.close()


def _all_on_local_disk(descriptors: Iterable[int]) -> bool:
    """Return whether every open file lies on a local disk. May block: statfs asks the file system."""
    return all(filesystem_type(descriptor) in _LOCAL for descriptor in descriptors)
