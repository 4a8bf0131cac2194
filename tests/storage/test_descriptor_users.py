"""A file that is closed while a thread reads it: the thread reads that file to its end, and no other by its number."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vdifs.errors import UsageError
from vdifs.storage import known_holes
from vdifs.storage.descriptor_users import Users
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of

SIZE = 1 << 16


def read(file: HostFile) -> bytes:
    return file.read_at(0, SIZE)


def read_into_a_buffer(file: HostFile) -> bytes:
    buffer = bytearray(SIZE)
    file.readinto_at(0, memoryview(buffer))
    return bytes(buffer)


def read_what_is_cached(file: HostFile) -> bytes:
    buffer = bytearray(SIZE)
    file.readinto_at(0, memoryview(buffer), wait=False)
    return bytes(buffer)


def look_for_holes(file: HostFile) -> bytes:
    return bytes(data_of(file).edges)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[HostFile]:
    """A file of ones; another one, of twos and a hole, waits to be opened."""
    (tmp_path / "own").write_bytes(b"\1" * SIZE)
    with (tmp_path / "foreign").open("wb") as foreign:
        foreign.write(b"\2" * 4096)
        foreign.truncate(SIZE)
    file = HostFile.open(str(tmp_path / "own"), lambda flags: os.open(tmp_path / "own", flags))
    file.settle()
    yield file
    file.close()


@pytest.mark.parametrize(
    ("use", "call"),
    [(read, "pread"), (read_into_a_buffer, "preadv"), (read_what_is_cached, "preadv"), (look_for_holes, "lseek")],
)
def test_what_is_being_read_keeps_its_number(
    use: Callable[[HostFile], bytes], call: str, file: HostFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking the number and the system call the file is closed and the next one is opened."""
    wanted = use(file)
    known_holes._known.clear()
    number, really = file.fd, getattr(os, call)
    foreign: list[int] = []

    def late(fd: int, *rest: Any) -> Any:
        if not foreign:
            file.close()
            foreign.append(os.open(tmp_path / "foreign", os.O_RDONLY))
        return really(fd, *rest)

    monkeypatch.setattr(os, call, late)
    try:
        assert use(file) == wanted
        assert foreign[0] != number
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        known_holes._known.clear()
        with pytest.raises(UsageError, match="own: it was closed: open the image again"):
            use(file)
    finally:
        os.close(foreign[0])


def test_the_last_to_leave_closes(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    users = Users(fd)
    with users:
        with users:
            users.close()
            users.close()
            os.fstat(fd)
        os.fstat(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    other = os.open(tmp_path, os.O_PATH)
    assert other == fd
    users.close()
    with users:
        pass
    os.fstat(other)
    os.close(other)
