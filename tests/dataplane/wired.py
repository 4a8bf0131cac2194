"""A plane without a kernel: a pair of sockets stands for /dev/fuse, another for what libfuse has of it."""

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.conftest import cannot_be_tried
from vdifs.dataplane.attachment import Plane

FORGET, READ, INIT, READDIR, INTERRUPT, BATCH_FORGET, READDIRPLUS, LSEEK = 2, 15, 26, 28, 36, 42, 44, 46
LOOKUP = 1
GETXATTR = 22
DATA, COMPRESSED, ONES = 2, 3, 0xFF
KEY, HANDLE = 1, 7
SECONDS = 60
"""Any wait for a thread of the plane ends well before that, on a busy machine too."""

Stamp = tuple[int, int, int, int]
Arrays = tuple[Any, Any, Any, Any, Any]
"""Of numpy, which mypy does not know for buffers before Python 3.12."""
_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")


class Answer(NamedTuple):
    """What the kernel is told; error: 0, or an errno below 0, of a notification its code."""

    unique: int
    error: int
    data: bytes


class Request(NamedTuple):
    """What libfuse is handed."""

    opcode: int
    unique: int
    body: bytes


class Asked(NamedTuple):
    """What Python is asked, see Request in vdifs/dataplane/_core.pyi."""

    unique: int
    seek: bool
    inode: int
    handle: int
    offset: int
    size: int


def packet(opcode: int, unique: int, body: bytes = b"", *, inode: int = 1, length: int | None = None) -> bytes:
    """Return a request as the kernel writes it. length: what it says of itself where that is not so."""
    stated = _HEADER.size + len(body) if length is None else length
    return _HEADER.pack(stated, opcode, unique, inode, 0, 0, 0, 0, 0) + body


def read_body(handle: int, offset: int, size: int) -> bytes:
    """Return the body of READ and of a listing."""
    return struct.pack("<QQIIQII", handle, offset, size, 0, 0, 0, 0)


@dataclass
class Wired:
    """A plane between two ends that the test holds."""

    plane: Plane
    kernel: socket.socket
    libfuse: socket.socket
    unique: int = 0
    backlog: list[Answer] = field(default_factory=list)

    def send(self, opcode: int, body: bytes = b"", *, unique: int | None = None) -> int:
        """Have the kernel ask; return the unique of the request."""
        self.unique += 2
        number = self.unique if unique is None else unique
        self.kernel.send(packet(opcode, number, body))
        return number

    def read(self, offset: int, size: int, handle: int = HANDLE) -> bytes | Asked:
        """Return what a read is answered by the plane, or what Python is asked."""
        unique = self.send(READ, read_body(handle, offset, size))
        came = self.next()
        if isinstance(came, Answer):
            assert (came.unique, came.error) == (unique, 0)
            return came.data
        assert came == (unique, False, 1, handle, offset, size)
        assert self.plane.fail(unique, 11)
        assert self.answer() == (unique, -11, b"")
        return came

    def served(self, offset: int, size: int, *files: int, handle: int = HANDLE) -> bytes:
        """Return what a read that the plane must answer is answered. files: put back in the page cache where needed."""
        for _ in range(100):
            found = self.read(offset, size, handle)
            if isinstance(found, bytes):
                return found
            for file in files:
                warm(file)
        raise AssertionError("the plane leaves to Python what it should answer itself")

    def next(self) -> Answer | Asked:
        """Return what comes first: an answer, or what Python is asked."""
        readable, _, _ = select.select([self.kernel.fileno(), self.plane.asked], [], [], SECONDS)
        assert readable, "nothing happened"
        if self.kernel.fileno() in readable:
            return self.answer()
        return self.asked()

    def answer(self) -> Answer:
        """Return the next answer to the kernel."""
        data = self.kernel.recv(2 << 20)
        length, error, unique = _ANSWER.unpack_from(data)
        assert length == len(data)
        return Answer(unique, error, data[_ANSWER.size :])

    def asked(self) -> Asked:
        """Return what Python is asked, which must be one thing."""
        readable, _, _ = select.select([self.plane.asked], [], [], SECONDS)
        assert readable, "Python was not asked"
        (request,) = self.plane.take()
        return Asked(*request)

    def passed(self) -> Request:
        """Return what libfuse is handed next."""
        data = self.libfuse.recv(2 << 20)
        length, opcode, unique, *_ = _HEADER.unpack_from(data)
        assert length == len(data)
        return Request(opcode, unique, data[_HEADER.size :])

    def quiet(self) -> bool:
        """Return whether nothing is under way: all that was sent before has been handled, and nothing came of it."""
        unique = self.send(LOOKUP)
        return self.passed() == (LOOKUP, unique, b"") and not select.select([self.kernel, self.libfuse], [], [], 0)[0]


@contextmanager
def wired(most: int = 1 << 20, *, serves: bool = True, started: bool = True) -> Iterator[Wired]:
    """Give a plane, and stop it at the end."""
    device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, libfuse = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    device.setblocking(False)
    for end in (kernel, libfuse):
        end.settimeout(SECONDS)
    with kernel, libfuse:
        plane = Plane(device.detach(), ours.detach(), most, serves)
        if started:
            plane.start()
        try:
            yield Wired(plane, kernel, libfuse)
        finally:
            plane.stop()


def stamp(file: int) -> Stamp:
    """Return the stamp of an open file."""
    now = os.fstat(file)
    return file, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def warm(file: int) -> None:
    """Have all of a file in the page cache."""
    for at in range(0, os.fstat(file).st_size, 1 << 20):
        os.pread(file, 1 << 20, at)


@contextmanager
def files(folder: Path, *contents: bytes) -> Iterator[list[int]]:
    """Give open files of these contents, in the page cache; skip the test where that cannot be read without waiting."""
    opened = []
    try:
        for number, content in enumerate(contents):
            path = folder / f"source{number}"
            path.write_bytes(content)
            opened.append(os.open(path, os.O_RDONLY))
        for file in opened:
            _require_no_wait(file)
        yield opened
    finally:
        for file in opened:
            os.close(file)


def _require_no_wait(file: int) -> None:
    try:
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass  # not at hand now, but it can be asked
    except OSError as error:
        cannot_be_tried(f"the file system of the tests has no RWF_NOWAIT: {error}")


def pieces(*each: tuple[int, int, int, int], kind: int = DATA) -> Arrays:
    """Return the arrays for `publish` of pieces (out, stop, host, file)."""
    out, stop, host, file = (list(column) for column in zip(*each, strict=True)) if each else ([], [], [], [])
    count = len(out)
    return (
        np.array(out, np.int64),
        np.array(stop, np.int64),
        np.array(host, np.int64),
        np.full(count, kind, np.uint8),
        np.array(file, np.int16),
    )
