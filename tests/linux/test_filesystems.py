"""What file system a file lies on, which mount a folder is, and room for a file, where these can be had."""

import errno
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_mounting
from tests.support.age import grow_old
from tests.support.descriptors import opened
from vdifs.linux import filesystems
from vdifs.linux.filesystems import filesystem_type, mount_number, reserve
from vdifs.linux.libc import call


def by_stat(path: Path) -> int:
    """Return the number of the file system's type as stat(1) tells it."""
    done = subprocess.run(["stat", "--file-system", "--format=%t", path], check=True, capture_output=True, text=True)
    return int(done.stdout, 16)


@pytest.mark.parametrize("place", ["/proc/self/status", "/sys/kernel", "/dev/shm", "/"])
def test_the_type_of_a_file_system_is_what_stat_says(place: str) -> None:
    if not os.path.exists(place):
        pytest.skip(f"no {place} here")
    with opened(Path(place)) as fd:
        assert filesystem_type(fd) == by_stat(Path(place))


def failing(monkeypatch: pytest.MonkeyPatch, *codes: int) -> None:
    """Have calls of the C library fail, one after the other, before any succeeds."""
    left = list(codes)

    def answer(name: str, *arguments: Any) -> int:
        if left:
            code = left.pop(0)
            raise OSError(code, os.strerror(code))
        return call(name, *arguments)

    monkeypatch.setattr(filesystems, "call", answer)


def test_of_a_server_that_does_not_answer_no_type_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errno.ESTALE)
    with opened(tmp_path) as fd:
        assert filesystem_type(fd) is None
        assert filesystem_type(fd) == by_stat(tmp_path)


@contextmanager
def mounted(folder: Path) -> Iterator[int]:
    """Mount a file system in memory, and yield a descriptor of its root."""
    subprocess.run(["mount", "-t", "tmpfs", "vdifs-test", folder], check=True)
    try:
        with opened(folder) as fd:
            yield fd
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("kernel", ["this one", "one before 6.8"])
def test_two_mounts_have_two_numbers_though_the_device_is_the_same(
    tmp_path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_mounting()
    if kernel != "this one":
        forgetful(monkeypatch, filesystems._MNT_ID_UNIQUE)
    with mounted(tmp_path) as fd:
        first, number = os.fstat(fd), mount_number(fd)
        assert mount_number(fd) == number != 0
    grow_old()  # a root that was made in the same tick of the kernel's clock would look the same
    with mounted(tmp_path) as fd:
        if (os.fstat(fd).st_dev, os.fstat(fd).st_ino) != (first.st_dev, first.st_ino):
            pytest.skip("another mount took the number of the device meanwhile")
        assert mount_number(fd) not in (0, number)


def forgetful(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Have the kernel not tell some fields of statx."""

    def answer(name: str, *arguments: Any) -> int:
        result = call(name, *arguments)
        found = arguments[-1]
        struct.pack_into("I", found, 0, struct.unpack_from("I", found)[0] & ~bits)
        return result

    monkeypatch.setattr(filesystems, "call", answer)


def test_a_mount_that_nothing_tells_from_others_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as fd:
        with monkeypatch.context() as patch:
            forgetful(patch, filesystems._MNT_ID_UNIQUE | filesystems._BTIME)
            assert mount_number(fd) == 0
        failing(monkeypatch, errno.ENOSYS)
        assert mount_number(fd) == 0


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[int]:
    """A descriptor of an empty file."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_room_is_reserved_and_reads_as_zeros(writable: int) -> None:
    if not reserve(writable, 4096, 1 << 20):
        pytest.skip("the file system cannot reserve room")
    st = os.fstat(writable)
    assert (st.st_size, st.st_blocks * 512 >= 1 << 20) == (4096 + (1 << 20), True)
    assert os.pread(writable, 1 << 21, 0) == bytes(st.st_size)


def test_a_call_that_a_signal_interrupts_is_made_again(writable: int, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errno.EINTR, errno.EINTR)
    if reserve(writable, 0, 4096):
        assert os.fstat(writable).st_size == 4096


def test_a_file_system_that_cannot_reserve_room_says_so() -> None:
    """As /proc; unlike os.posix_fallocate nothing is written there in its place."""
    fd = os.open("/proc/self/comm", os.O_WRONLY)
    before = Path("/proc/self/comm").read_bytes()
    try:
        assert reserve(fd, 0, 4096) is False
        assert Path("/proc/self/comm").read_bytes() == before
    finally:
        os.close(fd)


def test_room_that_there_is_not_is_an_error(writable: int) -> None:
    with pytest.raises(OSError) as caught:
        reserve(writable, 0, (1 << 63) - 1)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
