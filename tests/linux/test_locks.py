"""QEMU's locks: what a writer holds is seen, what a reader or a base holds is none of it, and we never take any."""

import errno
import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.support import oracle
from tests.support.builder import make
from tests.support.descriptors import opened
from tests.support.writers import qemu_io, qemu_nbd
from vdifs.linux import locks
from vdifs.linux.locks import LockTable, has_writer

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """`image.qcow2` on `base.qcow2`."""
    require_tool("qemu-io")
    require_tool("qemu-nbd")
    make(tmp_path / "base.qcow2", MIB)
    make(tmp_path / "image.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    return tmp_path / "image.qcow2"


def is_written(path: Path) -> bool:
    with opened(path) as fd:
        return has_writer(fd)


def is_in_table(path: Path) -> bool:
    table = LockTable.open()
    try:
        return path.stat().st_ino in table.written_inodes()
    finally:
        table.close()


@pytest.mark.parametrize("writer", [qemu_io, qemu_nbd])
@pytest.mark.parametrize("seen", [is_written, is_in_table])
def test_a_writer_is_seen_and_its_base_is_not_written(image: Path, writer: object, seen: object) -> None:
    assert callable(writer)
    assert callable(seen)
    base = image.with_name("base.qcow2")
    assert not seen(image)
    with writer(image):
        assert seen(image)
        assert not seen(base)
    assert not seen(image)


@pytest.mark.parametrize("reader", [qemu_io, qemu_nbd])
def test_a_reader_is_no_writer(image: Path, reader: object) -> None:
    assert callable(reader)
    with reader(image, "-r"):
        assert not is_written(image)
        assert not is_in_table(image)


@pytest.mark.parametrize(("byte", "writes"), [(100, False), (101, True), (102, False), (103, True), (201, False)])
@pytest.mark.parametrize("kind", [fcntl.F_RDLCK, fcntl.F_WRLCK])
def test_only_the_bytes_for_writing_and_resizing_count(image: Path, byte: int, writes: bool, kind: int) -> None:
    fd = os.open(image, os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", kind, os.SEEK_SET, byte, 1, 0))
        assert is_written(image) == writes
        assert is_in_table(image) == writes
    finally:
        os.close(fd)


def test_a_lock_of_the_whole_file_counts_as_a_writer(image: Path) -> None:
    """Of a program of another kind, say flock(1)'s elder brother lockf: locking all of it means to write."""
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_written(image)
        assert is_in_table(image)
        process.kill()


def test_asking_takes_no_lock_so_a_writer_may_start(image: Path) -> None:
    with opened(image) as fd:
        assert not has_writer(fd)
        with open("/proc/locks") as table:
            assert not any(f":{image.stat().st_ino} " in line for line in table)
        oracle.qemu_io(image, ["write -P 1 0 64k"])


def test_a_file_system_without_locks_has_no_writers(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(code: int) -> None:
        def fail(*_: object) -> bytes:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "fcntl", fail)

    with opened(image) as fd:
        for code in (errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL):
            answer(code)
            assert not has_writer(fd)
        answer(errno.EIO)
        with pytest.raises(OSError, match="Input/output error"):
            has_writer(fd)


TABLE = b"""\
1: OFDLCK ADVISORY  READ -1 fe:00:11 100 101
2: OFDLCK ADVISORY  READ -1 00:2f:12 103 103
3: OFDLCK ADVISORY  READ -1 fe:00:13 102 102
4: POSIX  ADVISORY  WRITE 77 fe:00:14 0 EOF
4: -> POSIX  ADVISORY  WRITE 78 fe:00:15 0 EOF
5: FLOCK  ADVISORY  WRITE 79 fe:00:16 0 EOF
6: OFDLCK ADVISORY  READ -1 fe:00:17 104 EOF
7: LEASE  ACTIVE    READ 80 fe:00:18 0 EOF
8: POSIX  ADVISORY  READ 81 <none>:0 0 0
"""


def test_the_lines_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "locks").write_bytes(TABLE)
    table = LockTable(os.open(tmp_path / "locks", os.O_RDONLY))
    assert table.written_inodes() == {11, 12, 14}
    table.close()
    table.close()
    assert table.written_inodes() == frozenset()


def test_a_long_table_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_CHUNK", 10)
    (tmp_path / "locks").write_bytes(TABLE * 3 + b"9: OFDLCK ADVISORY  READ -1 fe:00:4711 101 101\n")
    table = LockTable(os.open(tmp_path / "locks", os.O_RDONLY))
    assert table.written_inodes() == {11, 12, 14, 4711}
    table.close()


def test_without_a_table_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise PermissionError(errno.EACCES, "hidden")

    table = LockTable(os.open(tmp_path, os.O_PATH))
    assert table.written_inodes() == frozenset()
    table.close()
    monkeypatch.setattr(os, "open", fail)
    assert LockTable.open().written_inodes() == frozenset()
