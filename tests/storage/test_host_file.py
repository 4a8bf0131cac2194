"""One open file: positional reads, what beyond its end reads as, and what counts as a change."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.age import grow_old
from vdifs.errors import FormatError, SourceChangedError, StorageError, UsageError, WouldBlock
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.host_file import HostFile

CONTENTS = bytes(range(1, 251)) * 41
SIZE = len(CONTENTS)
OFFSETS = st.one_of(st.integers(0, SIZE + 50), st.integers(SIZE - 30, SIZE + 30))


def opened(path: Path) -> HostFile:
    return HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostFile]:
    """A file that is not changed."""
    path = tmp_path_factory.mktemp("hostfile") / "file"
    path.write_bytes(CONTENTS)
    file = opened(path)
    yield file
    file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENTS)
    return path


@pytest.fixture
def file(path: Path) -> Iterator[HostFile]:
    file = opened(path)
    yield file
    file.close()


@given(OFFSETS, OFFSETS)
def test_a_read_is_a_slice_with_zeros_beyond_the_end(shared: HostFile, offset: int, length: int) -> None:
    assert shared.read_at(offset, length) == CONTENTS[offset : offset + length].ljust(length, b"\0")


@given(st.lists(OFFSETS, max_size=5), st.integers(1, 300))
def test_many_reads_are_as_many_slices(shared: HostFile, offsets: list[int], length: int) -> None:
    assert shared.read_each(offsets, length) == [shared.read_at(offset, length) for offset in offsets]


def test_one_of_many_reads_that_fails_tells_where(file: HostFile) -> None:
    with pytest.raises(StorageError):
        file.read_each([0, -1], 10)
    file.close()
    with pytest.raises(UsageError, match="closed"):
        file.read_each([0], 10)


@given(OFFSETS, st.integers(1, 300))
def test_a_buffer_gets_zeros_beyond_the_end(shared: HostFile, offset: int, length: int) -> None:
    buffer = bytearray(b"\xff") * length
    shared.readinto_at(offset, memoryview(buffer))
    assert bytes(buffer) == CONTENTS[offset : offset + length].ljust(length, b"\0")


def test_cached_bytes_are_read_without_waiting(shared: HostFile) -> None:
    shared.read_at(0, SIZE)
    buffer = bytearray(SIZE + 10)
    shared.readinto_at(0, memoryview(buffer), wait=False)
    assert buffer[:SIZE] == CONTENTS


@given(st.one_of(OFFSETS, st.integers(0, SIZE + 5000)), st.one_of(st.integers(0, 30), st.integers(0, 5000)))
@example(SIZE, 1)
@example(SIZE - 1, 1)
@example(SIZE - 1, 12288 - SIZE + 1)
@example(SIZE - 1, 12288 - SIZE + 2)
def test_a_table_may_end_early_only_in_the_last_cluster(shared: HostFile, offset: int, length: int) -> None:
    file_in_clusters = -(-SIZE // 4096) * 4096
    if offset < SIZE and offset + length <= file_in_clusters:
        assert shared.read_table("L2 table", offset, length, 4096) == shared.read_at(offset, length)
    else:
        with pytest.raises(FormatError, match=rf"the L2 table at {offset:#x} lies beyond the end of the file at "):
            shared.read_table("L2 table", offset, length, 4096)


def test_the_fingerprint_is_that_of_the_file(path: Path, file: HostFile) -> None:
    st = path.stat()
    assert file.fingerprint == Fingerprint(st.st_dev, st.st_ino, SIZE, st.st_mtime_ns, st.st_ctime_ns)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"else")


def write_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def link_and_overwrite(path: Path) -> None:
    path.with_name("link").hardlink_to(path)
    overwrite(path)


@pytest.mark.parametrize(
    "change",
    [append, overwrite, lambda path: os.truncate(path, 10), write_and_set_the_time_back, link_and_overwrite, os.utime],
    ids=["appended", "overwritten", "truncated", "mtime forged", "linked and overwritten", "touched"],
)
def test_a_change_is_estale_for_ever(path: Path, file: HostFile, change: Callable[[Path], None]) -> None:
    file.check_unchanged()
    grow_old()
    change(path)
    for _ in range(2):
        with pytest.raises(SourceChangedError, match="changed since it was opened") as caught:
            file.check_unchanged()
        assert caught.value.errno == 116


def rename_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other")
    other.rename(path)


@pytest.mark.parametrize(
    "event",
    [
        lambda path: path.unlink(),
        lambda path: path.with_name("link").hardlink_to(path),
        rename_over,
        lambda path: os.read(os.open(path, os.O_RDONLY), 10),
    ],
    ids=["unlinked", "hard-linked", "renamed over", "read"],
)
def test_what_leaves_the_contents_alone_is_no_change(
    path: Path, file: HostFile, event: Callable[[Path], object]
) -> None:
    event(path)
    file.check_unchanged()
    assert file.read_at(0, SIZE) == CONTENTS


def test_a_change_after_an_unlink_is_a_change(path: Path, file: HostFile) -> None:
    writer = path.open("r+b")
    path.unlink()
    file.check_unchanged()
    grow_old()
    writer.write(b"else")
    writer.close()
    with pytest.raises(SourceChangedError):
        file.check_unchanged()


def test_a_rename_is_no_change(path: Path, file: HostFile) -> None:
    """A rename moves ctime alone; with the link count as it was it must be told from a write that forged mtime."""
    path.rename(path.with_name("renamed"))
    try:
        file.check_unchanged()
    except SourceChangedError:
        return  # the contract (docs/specification.md 5.2) allows both: ctime moved without the link count
    assert file.read_at(0, SIZE) == CONTENTS


def test_closing_twice_is_harmless_and_no_use_is_possible_behind_it(path: Path) -> None:
    file = opened(path)
    file.close()
    file.close()
    for use in (file.check_unchanged, lambda: file.read_at(0, 10)):
        with pytest.raises(UsageError, match="it was closed: open the image again"):
            use()


def test_a_file_that_is_closed_while_it_is_asked_is_not_taken_for_one_that_changed(
    path: Path, file: HostFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor may be another file's by then, whose time stamps are others."""
    other = path.with_name("other")
    other.touch()

    def closed_meanwhile(_: int) -> os.stat_result:
        file.close()
        return other.stat()

    monkeypatch.setattr(os, "fstat", closed_meanwhile)
    with pytest.raises(UsageError, match="it was closed"):
        file.check_unchanged()


def test_a_server_that_does_not_answer_is_an_error_of_the_disk_and_no_change(
    file: HostFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            file.check_unchanged()
    file.check_unchanged()


def test_an_error_of_the_disk_is_eio_with_the_place(file: HostFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    monkeypatch.setattr(os, "preadv", fail)
    for read in (lambda: file.read_at(0x200, 10), lambda: file.readinto_at(0x200, memoryview(bytearray(10)))):
        with pytest.raises(StorageError, match=r"reading at 0x200 failed: Input/output error") as caught:
            read()
        assert caught.value.errno == 5


def test_short_reads_are_continued(file: HostFile, monkeypatch: pytest.MonkeyPatch) -> None:
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 7), at))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [memoryview(buffers[0])[:7]], at))
    assert file.read_at(100, 1000) == CONTENTS[100:1100]
    buffer = bytearray(1000)
    file.readinto_at(100, memoryview(buffer))
    assert bytes(buffer) == CONTENTS[100:1100]


def test_a_file_that_is_missing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing: No such file or directory: restore it") as caught:
        opened(tmp_path / "missing")
    assert caught.value.errno == 2


def test_too_many_open_files_say_what_to_do() -> None:
    def opener(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(StorageError, match=r"^a.qcow2: Too many open files: allow more .*ulimit -n") as caught:
        HostFile.open("a.qcow2", opener)
    assert caught.value.errno == errno.EMFILE


def test_names_are_escaped_in_messages(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        opened(tmp_path / "evil\n\x1b[2Jname")
    assert str(caught.value).isprintable()


def test_what_is_not_cached_would_block(file: HostFile, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    asked: list[int] = []

    def answer(fd: int, buffers: list[memoryview], at: int, flags: int) -> int:
        asked.append(flags)
        code = answers.pop(0)
        raise OSError(code, os.strerror(code))

    def read() -> None:
        file.readinto_at(0, memoryview(bytearray(10)), wait=False)

    monkeypatch.setattr(os, "preadv", answer)
    for code, error in ((errno.EAGAIN, WouldBlock), (errno.EIO, StorageError), (errno.EOPNOTSUPP, WouldBlock)):
        answers.append(code)
        with pytest.raises(error):
            read()
    with pytest.raises(WouldBlock):
        read()  # a file system that cannot tell is not asked again
    assert asked == [os.RWF_NOWAIT] * 3


def test_a_part_that_is_cached_is_not_enough(file: HostFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "preadv", lambda *_: 7)
    with pytest.raises(WouldBlock):
        file.readinto_at(0, memoryview(bytearray(10)), wait=False)
