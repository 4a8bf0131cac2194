"""What the plane leaves to Python, and how that is answered."""

import errno
import os
import struct
from pathlib import Path

import pytest

from tests.dataplane.wired import (
    COMPRESSED,
    HANDLE,
    INTERRUPT,
    KEY,
    LSEEK,
    READ,
    Answer,
    Asked,
    Wired,
    files,
    pieces,
    read_body,
    stamp,
    wired,
)  # fmt: skip

DATA = b"0123456789" * 1000


def published(plane: Wired, file: int, size: int = 10_000, kind: int = 2) -> None:
    """Publish a source that is what a file has."""
    plane.plane.add(KEY, size, [stamp(file)], 1)
    plane.plane.open(HANDLE, KEY)
    plane.plane.publish(KEY, 0, size, pieces((0, size, 0, 0), kind=kind), 100)


def test_an_unknown_handle(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, DATA) as (a,):
        published(plane, a)
        assert isinstance(plane.read(0, 10, handle=HANDLE + 1), Asked)
        plane.plane.close(HANDLE)
        assert isinstance(plane.read(0, 10), Asked)


def test_a_read_of_more_than_the_plane_has_room_for(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, DATA) as (a,):
        published(plane, a)
        assert isinstance(plane.read(0, (1 << 20) + 1), Asked)
        assert isinstance(plane.read(0, 0xFFFF_FFFF), Asked)


def test_what_is_not_published_wholly(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, DATA) as (a,):
        plane.plane.add(KEY, 10_000, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        plane.plane.publish_bytes(KEY, 100, b"x" * 100)
        for offset, size in ((0, 10), (99, 2), (199, 2), (200, 1), (0, 10_000)):
            assert isinstance(plane.read(offset, size), Asked)
        assert plane.served(100, 100) == b"x" * 100


def test_a_piece_of_another_kind_and_a_gap_beside_it(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, DATA) as (a,):
        plane.plane.add(KEY, 10_000, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        plane.plane.publish(KEY, 0, 10_000, pieces((1000, 2000, 0, 0), kind=COMPRESSED), 100)
        assert plane.served(0, 1000) == bytes(1000)
        for offset, size in ((999, 2), (1500, 10), (1999, 2)):
            assert isinstance(plane.read(offset, size), Asked)
        assert plane.served(2000, 10) == bytes(10)


@pytest.mark.parametrize("field", [1, 2, 3])
def test_a_stamp_that_differs_and_the_right_one_again(plane: Wired, tmp_path: Path, field: int) -> None:
    with files(tmp_path, DATA) as (a,):
        published(plane, a)
        assert plane.served(0, 10, a) == DATA[:10]
        other = list(stamp(a))
        other[field] += 1
        assert plane.plane.restamp(KEY, [(other[0], other[1], other[2], other[3])])
        assert isinstance(plane.read(0, 10), Asked)
        assert plane.plane.restamp(KEY, [stamp(a)])
        assert plane.served(0, 10, a) == DATA[:10]
        assert not plane.plane.restamp(KEY, [stamp(a), stamp(a)])
        assert not plane.plane.restamp(KEY + 1, [stamp(a)])


def test_a_file_that_is_written_and_one_that_is_cut_off(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, DATA, DATA) as (a, b):
        plane.plane.add(KEY, 20_000, [stamp(a), stamp(b)], 2)
        plane.plane.open(HANDLE, KEY)
        plane.plane.publish(KEY, 0, 20_000, pieces((0, 10_000, 0, 0), (10_000, 20_000, 0, 1)), 100)
        assert plane.served(9990, 20, a, b) == DATA[-10:] + DATA[:10]
        os.truncate(tmp_path / "source1", 5000)
        assert plane.served(0, 10, a) == DATA[:10], "the other file is as it was"
        for offset, size in ((9999, 2), (10_000, 10), (16_000, 10)):
            assert isinstance(plane.read(offset, size), Asked)
        (tmp_path / "source0").write_bytes(DATA + b"more")
        assert isinstance(plane.read(0, 10), Asked)


def test_zeros_and_bytes_count_only_while_every_file_is_as_it_was(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, DATA, DATA) as (a, b):
        plane.plane.add(KEY, 20_000, [stamp(a), stamp(b)], 1)
        plane.plane.open(HANDLE, KEY)
        plane.plane.publish(KEY, 0, 10_000, pieces((5000, 10_000, 0, 0)), 100)
        plane.plane.publish_bytes(KEY, 10_000, b"x" * 10_000)
        assert plane.served(0, 10) == bytes(10)
        os.truncate(tmp_path / "source1", 0)
        assert plane.served(6000, 10, a) == DATA[1000:1010], "the file that was read is as it was"
        for offset in (0, 15_000, 20_000):
            assert isinstance(plane.read(offset, 10), Asked)


def test_a_plane_that_serves_nothing_asks_python_all(tmp_path: Path) -> None:
    with files(tmp_path, DATA) as (a,), wired(serves=False) as plane:
        published(plane, a)
        assert isinstance(plane.read(0, 10), Asked)
        assert plane.plane.served == (0, 0)


def test_lseek_is_pythons_and_its_answer_goes_to_the_kernel(plane: Wired) -> None:
    unique = plane.send(LSEEK, struct.pack("<QQII", HANDLE, 5, os.SEEK_HOLE, 0))
    assert plane.asked() == (unique, True, 1, HANDLE, 5, os.SEEK_HOLE)
    assert plane.plane.answer(unique, b"12345678")
    assert plane.answer() == Answer(unique, 0, b"12345678")
    assert not plane.plane.answer(unique, b"again"), "it is answered"
    assert not plane.plane.fail(unique, errno.EIO)
    assert plane.quiet()


@pytest.mark.parametrize(("error", "told"), [(5, 5), (errno.ESTALE, errno.ESTALE), (0, 5), (-1, 5), (600, 5)])
def test_an_error_that_the_kernel_would_not_take_is_eio(plane: Wired, error: int, told: int) -> None:
    unique = plane.send(READ, read_body(HANDLE, 0, 10))
    plane.asked()
    assert plane.plane.fail(unique, error)
    assert plane.answer() == Answer(unique, -told, b"")


def test_python_takes_each_request_once_and_in_order(plane: Wired) -> None:
    uniques = [plane.send(READ, read_body(HANDLE, number, 10)) for number in range(100)]
    plane.quiet()
    taken = plane.plane.take()
    assert [each[0] for each in taken] == uniques
    assert plane.plane.take() == []
    for number in range(300):
        plane.send(READ, read_body(HANDLE, number, 10))
        plane.quiet()
    assert len(plane.plane.take()) == 256
    assert len(plane.plane.take()) == 44
    for unique in uniques:
        plane.plane.answer(unique, b"x")
        assert plane.answer() == Answer(unique, 0, b"x")


def test_interrupts(plane: Wired) -> None:
    waiting, taken = (plane.send(READ, read_body(HANDLE, number, 10)) for number in (1, 2))
    plane.quiet()
    interrupt = plane.send(INTERRUPT, struct.pack("<Q", waiting))
    assert plane.answer() == Answer(waiting, -errno.EINTR, b"")
    assert plane.asked().unique == taken
    assert not plane.plane.answer(waiting, b"late")

    plane.send(INTERRUPT, struct.pack("<Q", taken))
    assert plane.quiet(), "Python has it: it will be answered"
    assert plane.plane.answer(taken, b"x")
    assert plane.answer() == Answer(taken, 0, b"x")

    for foreign in (taken, 12345, interrupt):
        unique = plane.send(INTERRUPT, struct.pack("<Q", foreign))
        assert plane.passed() == (INTERRUPT, unique, struct.pack("<Q", foreign))
