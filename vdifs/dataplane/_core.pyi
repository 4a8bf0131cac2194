"""The compiled type. Its methods may be called from any thread, and raise ValueError for what makes no sense."""

from collections.abc import Sequence

from typing_extensions import Buffer

Stamp = tuple[int, int, int, int]
"""A file as it was when the image was opened: descriptor, size in bytes, mtime and ctime in nanoseconds."""
Arrays = tuple[Buffer, Buffer, Buffer, Buffer, Buffer]
"""Pieces: out, stop, host (int64), kind (uint8), file (int16), as `vdifs.output.window.Pieces` describes them."""
FramedArrays = tuple[Buffer, Buffer, Buffer, Buffer, Buffer, Buffer]
"""The same, and guest (int64)."""
Frame = tuple[int, int, tuple[tuple[int, int], ...], tuple[tuple[int, bytes], ...], int, int]
"""What `vdifs.output.frame.Frame` holds, in its order."""
Request = tuple[int, bool, int, int, int, int]
"""unique, whether it is LSEEK (else READ), inode, handle, offset, and size (of LSEEK: the whence)."""

class Plane:
    """See plane.h. Takes over `device` and `socket`."""

    def __init__(self, device: int, socket: int, most: int, serves: bool) -> None:
        """most: bytes of what may be published. serves: whether it answers any read itself."""

    @property
    def asked(self) -> int:
        """A descriptor that can be read when there is something to take, and at the end."""

    @property
    def ended(self) -> bool:
        """Whether the kernel has ended the connection."""

    @property
    def served(self) -> tuple[int, int]:
        """How many reads were answered here, and how many bytes by them."""

    def start(self) -> None:
        """Start the threads. Raises OSError."""

    def stop(self) -> None:
        """End the threads and close /dev/fuse; more than once is harmless. Afterwards nothing is answered."""

    def add(self, key: int, size: int, stamps: Sequence[Stamp], data_files: int, has_holes: bool = False, /) -> None:
        """Know a source of `size` bytes from now on: its data files first, then the other files of its chain.

        has_holes: what lies in no piece is a hole; else LSEEK is always Python's.
        """

    def restamp(self, key: int, stamps: Sequence[Stamp], /) -> bool:
        """Give a source new stamps of the same files; return whether it is there."""

    def withdraw(self, key: int, /) -> None:
        """Forget a source and its handles; once it returns no descriptor of it is used. An unknown one is harmless."""

    def publish(self, key: int, start: int, stop: int, arrays: Arrays, cost: int, /) -> bool:
        """Tell where the bytes [start, stop) of a source come from; return whether that is kept.

        The arrays are kept, and must not change. cost: their bytes of memory.
        """

    def publish_framed(self, key: int, start: int, stop: int, arrays: FramedArrays, frame: Frame, cost: int, /) -> bool:
        """The same of pieces that do not make up the range themselves, but what its frames carry."""

    def publish_bytes(self, key: int, start: int, data: bytes, /) -> bool:
        """Tell the bytes themselves from `start` on; return whether they are kept."""

    def covers(self, key: int, start: int, stop: int, /) -> bool:
        """Return whether [start, stop) of a source is published wholly."""

    def open(self, handle: int, key: int, /) -> bool:
        """Answer reads of that handle from a source; return whether it is there."""

    def close(self, handle: int, /) -> tuple[int, int, int]:
        """Forget a handle; return what `counts` would."""

    def counts(self, handle: int, /) -> tuple[int, int, int]:
        """Return how many reads of a handle were answered here, how many bytes, and where the last of them ended."""

    def take(self) -> list[Request]:
        """Return requests that Python has to answer: each once."""

    def answer(self, unique: int, data: Buffer, /) -> bool:
        """Answer a request that was taken; return whether the kernel took the answer."""

    def fail(self, unique: int, error: int, /) -> bool:
        """Answer it by an errno."""

    def invalidate(self, inode: int, /) -> None:
        """Have the kernel drop all pages of an inode; blocks while reads of them are under way. Raises OSError."""
