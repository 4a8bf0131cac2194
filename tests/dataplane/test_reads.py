"""Reads that the plane answers itself: the same bytes as an independent model, from real files."""

import errno
import os
import select
import threading
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.wired import HANDLE, KEY, ONES, READ, Asked, Wired, files, pieces, read_body, stamp, wired

KIB, MIB = 1 << 10, 1 << 20
A, B = Random(1).randbytes(40 * KIB), Random(2).randbytes(70_001)


def test_pieces_of_several_files_and_the_gaps_between_them(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A, B) as (a, b):
        plane.plane.add(KEY, 100_000, [stamp(a), stamp(b)], 2)
        plane.plane.open(HANDLE, KEY)
        parts = pieces((10, 5000, 100, 0), (5000, 9000, 7, 1), (20_000, 60_000, 30_000, 1))
        assert plane.plane.publish(KEY, 0, 100_000, parts, 1000)
        model = bytearray(100_000)
        model[10:5000] = A[100:5090]
        model[5000:9000] = B[7:4007]
        model[20_000:60_000] = B[30_000:70_000]
        for offset, size in ((0, 100_000), (9, 2), (4999, 2), (8999, 11_002), (60_000, 10), (99_999, 1)):
            assert plane.served(offset, size, a, b) == model[offset : offset + size]


def test_bytes_and_what_is_beyond_the_end(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, 10_000, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert plane.plane.publish_bytes(KEY, 0, B[:6000])
        assert plane.plane.publish_bytes(KEY, 6000, B[6000:10_000])
        assert plane.served(5000, 2000) == B[5000:7000]
        assert plane.served(9000, 2000) == B[9000:10_000]
        assert plane.served(10_000, 10) == b""
        for beyond in (10_001, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            assert plane.served(beyond, MIB) == b""


def test_a_source_whose_end_is_near_2_to_the_63(plane: Wired, tmp_path: Path) -> None:
    size = (1 << 63) - 1
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, size, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert plane.plane.publish(KEY, size - 5000, size, pieces((1000, 3000, 0, 0)), 1000)
        assert plane.served(size - 5000, MIB, a) == bytes(1000) + A[:2000] + bytes(2000)
        assert plane.served(size - 1, MIB, a) == b"\0"
        assert plane.served(size, 1, a) == b""
        last = (1 << 63) - 1 - 2000
        assert plane.plane.publish(KEY, 0, 5000, pieces((1000, 3000, last, 0)), 1000)
        assert plane.served(0, 500, a) == bytes(500)
        beyond = plane.read(2000, 4)
        assert isinstance(beyond, tuple) or beyond == bytes(4)


def test_a_file_that_ends_early_reads_as_zeros_behind_its_end(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, 3 * MIB, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        parts = pieces((0, 10_000, len(A) - 4000, 0), (10_000, 20_000, len(A), 0), (20_000, 30_000, 1 << 40, 0))
        assert plane.plane.publish(KEY, 0, MIB, parts, 1000)
        assert plane.served(0, 30_000, a) == A[-4000:] + bytes(26_000)
        assert plane.served(3000, 5000, a) == A[-1000:] + bytes(4000)
        assert plane.served(15_000, 100, a) == bytes(100)


def test_a_read_goes_across_regions_of_both_kinds(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, 9000, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert plane.plane.publish(KEY, 0, 3000, pieces((0, 3000, 5, 0)), 100)
        assert plane.plane.publish_bytes(KEY, 3000, b"x" * 3000)
        assert plane.plane.publish(KEY, 6000, 9000, pieces((100, 3000, 0, 0)), 100)
        model = A[5:3005] + b"x" * 3000 + bytes(100) + A[:2900]
        assert plane.served(0, 9000, a) == model
        assert plane.served(2999, 3002, a) == model[2999:6001]


def test_pieces_of_ones_are_of_no_file(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, 9000, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        out, stop, host, kind, file = pieces((100, 200, 0, -1), (200, 4000, 7, 0), (5000, 5512, -1, 7))
        kind[[0, 2]] = ONES
        assert plane.plane.publish(KEY, 0, 9000, (out, stop, host, kind, file), 100)
        model = bytes(100) + b"\xff" * 100 + A[7:3807] + bytes(1000) + b"\xff" * 512 + bytes(3488)
        assert plane.served(0, 9000, a) == model
        assert plane.served(150, 100, a) == model[150:250]
        assert plane.served(5001, 12) == b"\xff" * 12
        os.utime(a, ns=(1, 1))
        assert isinstance(plane.read(5001, 12), Asked), "nothing of what a changed file is part of"


def test_what_is_published_again_takes_the_place_of_all_it_touches(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, 9000, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        for start in (0, 3000, 6000):
            assert plane.plane.publish_bytes(KEY, start, b"x" * 3000)
        assert plane.plane.publish_bytes(KEY, 2999, b"y" * 2)
        assert plane.served(2999, 2) == b"yy"
        assert not plane.plane.covers(KEY, 0, 1)
        assert not plane.plane.covers(KEY, 2999, 3002)
        assert plane.plane.covers(KEY, 2999, 3001)
        assert plane.plane.covers(KEY, 6000, 9000)


def test_counters_are_of_a_handle_and_of_all(plane: Wired, tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, 9000, [stamp(a)], 1)
        for handle in (5, HANDLE, 6):
            assert plane.plane.open(handle, KEY)
        assert not plane.plane.open(6, KEY), "it is open"
        assert not plane.plane.open(8, KEY + 1), "there is no such source"
        plane.plane.publish_bytes(KEY, 0, b"x" * 9000)
        plane.served(0, 100)
        plane.served(200, 100)
        plane.served(8950, 100, handle=5)
        plane.read(0, 1, handle=99)
        plane.quiet()
        assert plane.plane.served == (3, 250)
        assert plane.plane.counts(HANDLE) == (2, 200, 300)
        assert plane.plane.counts(5) == plane.plane.close(5) == (1, 50, 9000)
        assert plane.plane.counts(5) == plane.plane.counts(6) == (0, 0, 0)


Piece = tuple[int, int, int, int]
runs = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(1, 9000), st.integers(0, 80_000), st.integers(0, 1)), max_size=30
)


def laid_out(drawn: list[Piece]) -> list[Piece]:
    """Return pieces (out, stop, host, file) from (gap, length, host, file)."""
    made, at = [], 0
    for gap, length, host, file in drawn:
        made.append((at + gap, at + gap + length, host, file))
        at += gap + length
    return made


@given(
    drawn=runs,
    start=st.integers(0, 5000),
    tail=st.integers(1, 5000),
    reads=st.lists(st.tuples(st.integers(0, 1 << 18), st.integers(1, 100_000)), min_size=1, max_size=10),
)
@settings(max_examples=60)
def test_any_pieces_give_the_bytes_of_a_model(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[Piece],
    start: int,
    tail: int,
    reads: list[tuple[int, int]],
) -> None:
    laid = laid_out(drawn)
    length = (laid[-1][1] if laid else 0) + tail
    model = bytearray(length)
    for out, stop, host, file in laid:
        data = (A, B)[file][host : host + stop - out]
        model[out : out + len(data)] = data
    with wired() as made, files(tmp_path_factory.mktemp("any"), A, B) as (a, b):
        made.plane.add(KEY, start + length, [stamp(a), stamp(b)], 2)
        made.plane.open(HANDLE, KEY)
        assert made.plane.publish_bytes(KEY, 0, b"z" * start) if start else True
        assert made.plane.publish(KEY, start, start + length, pieces(*laid), 1000)
        whole = b"z" * start + model
        for offset, size in reads:
            assert made.served(offset, size, a, b) == whole[offset : offset + size]


def test_a_large_read_wakes_the_second_thread_and_has_the_same_bytes(plane: Wired, tmp_path: Path) -> None:
    data = Random(3).randbytes(MIB)
    with files(tmp_path, data) as (a,):
        plane.plane.add(KEY, MIB, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        plane.plane.publish(KEY, 0, MIB, pieces((0, MIB, 0, 0)), 1000)
        for offset in range(0, MIB, 160 * KIB):
            assert plane.served(offset, 160 * KIB, a) == data[offset : offset + 160 * KIB]


class Readers:
    """Threads that read all the time: each asks, takes any answer, and looks whether it is right."""

    def __init__(self, plane: Wired, count: int) -> None:
        self.plane, self.wrong = plane, list[object]()
        self._stop, self._answered = threading.Event(), threading.Event()
        self._readers = [threading.Thread(target=self._read) for _ in range(count)]
        self._python = threading.Thread(target=self._answer)
        for number in range(count):
            self._ask(number * 1000)
        for thread in (*self._readers, self._python):
            thread.start()

    def _ask(self, number: int) -> None:
        offset = Random(number).randrange(30 * KIB)
        self.plane.send(READ, read_body(HANDLE, offset, 1000), unique=offset << 16 | (number + 1) % 65_536)

    def _read(self) -> None:
        while True:
            unique, error, data = self.plane.answer()
            offset = unique >> 16
            if error != -errno.EAGAIN and data != A[offset : offset + 1000]:
                self.wrong.append((unique, error))
            if self._stop.is_set():
                return
            self._ask(unique & 0xFFFF)

    def _answer(self) -> None:
        while not self._answered.is_set():
            select.select([self.plane.plane.asked], [], [], 0.01)
            for unique, *_ in self.plane.plane.take():
                self.plane.plane.fail(unique, errno.EAGAIN)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._readers:
            thread.join()
        self._answered.set()
        self._python.join()


def test_a_source_is_withdrawn_while_four_threads_read(tmp_path: Path) -> None:
    with files(tmp_path, A) as (a,), wired() as made:
        readers = Readers(made, 4)
        try:
            for _ in range(200):
                own = os.dup(a)
                made.plane.add(KEY, len(A), [stamp(own)], 1)
                made.plane.open(HANDLE, KEY)
                made.plane.publish(KEY, 0, len(A), pieces((0, len(A), 0, 0)), 1000)
                made.plane.withdraw(KEY)
                os.close(own)  # not used any more: another file may get the number
        finally:
            readers.stop()
        assert readers.wrong == []
