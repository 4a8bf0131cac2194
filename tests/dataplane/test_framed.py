"""Reads of framed regions that the plane answers itself: bytes between those of files, numbers, and sums."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.wired import COMPRESSED, HANDLE, KEY, Asked, Wired, files, pieces, stamp, wired
from tests.support.frames import framed
from vdifs.output.frame import Frame
from vdifs.output.vmdk.grain import FRAME as VMDK_FRAME

KIB, MIB = 1 << 10, 1 << 20
LONGEST = 160 * KIB
"""Of the reads: that much goes through a pair of sockets."""
A = Random(1).randbytes(3 * MIB)

Piece = tuple[int, int, int, int]


@dataclass(frozen=True)
class Framed:
    """A region of whole frames, and perhaps of part of one; guests: of each piece."""

    frame: Frame
    length: int
    pieces: list[Piece]
    guests: list[int]

    def publish(self, plane: Wired, start: int = 0, *, kind: int = 2) -> bool:
        arrays: Any = *pieces(*self.pieces, kind=kind), np.array(self.guests, np.int64)
        return plane.plane.publish_framed(KEY, start, start + self.length, arrays, self.frame, 1000)

    def model(self, content: bytes) -> bytes:
        """Return its bytes; content: of the file."""
        count = -(-self.length // self.frame.size)
        payload = bytearray(count * self.frame.payload)
        for out, stop, host, _ in self.pieces:
            payload[out:stop] = content[host : host + stop - out].ljust(stop - out, b"\0")
        return framed(self.frame, bytes(payload), [self.sector(index) for index in range(count)])[: self.length]

    def sector(self, index: int) -> int:
        begin = index * self.frame.payload
        first = next(n for n, each in enumerate(self.pieces) if each[1] > begin)
        return (self.guests[first] + begin - self.pieces[first][0]) // 512


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    number_at = draw(st.sampled_from([-1, 0, 5]))
    first = draw(st.integers(13 if number_at >= 0 else 0, 30))
    lengths = draw(st.lists(st.sampled_from([1, 2, 31, 512, 5536, 5537, 20_000]), min_size=1, max_size=2))
    gap, tail = draw(st.integers(4, 9)), draw(st.integers(4, 700))
    runs = [(first, first + lengths[0])]
    if len(lengths) == 2:
        runs.append((runs[0][1] + gap, runs[0][1] + gap + lengths[1]))
    end = runs[-1][1]
    literals = [(first - 2, b"xy")] if first >= 2 else []
    literals += [(runs[0][1], b"abcd")] if len(runs) == 2 else []
    sum_at = draw(st.sampled_from([-1, end, end + tail - 4]))
    return Frame(end + tail, sum(lengths), tuple(runs), tuple(literals), number_at, sum_at)


@st.composite
def regions(draw: st.DrawFn) -> Framed:
    """Draw frames each of which has a piece, over holes, over pieces that go on in the next."""
    frame = draw(frames())
    made: list[Piece] = []
    guests: list[int] = []
    count = draw(st.integers(1, 9))
    for index in range(count):
        low, high = index * frame.payload, (index + 1) * frame.payload
        start = max(draw(st.integers(low, high - 1)), made[-1][1] if made else 0) if draw(st.booleans()) else low
        start = max(start, made[-1][1] if made else 0)
        if start >= high:
            continue
        stop = draw(st.integers(start + 1, high + (frame.payload // 2 if index + 1 < count else 0)))
        made.append((start, stop, draw(st.integers(0, 60_000)), 0))
        guests.append(draw(st.integers(0, 1 << 30)) * 512 + (start - low))
    length = count * frame.size - draw(st.sampled_from([0, 0, 1, frame.size - frame.runs[0][0] - 1]))
    return Framed(frame, length, made, guests)


@given(
    regions(), st.integers(0, 5000), st.lists(st.tuples(st.integers(0, 1 << 17), st.integers(1, 90_000)), max_size=10)
)
@settings(max_examples=80)
def test_any_frames_give_the_bytes_of_a_model(
    tmp_path_factory: pytest.TempPathFactory, region: Framed, before: int, reads: list[tuple[int, int]]
) -> None:
    content = A[:70_001]
    with wired() as made, files(tmp_path_factory.mktemp("any"), content) as (a,):
        made.plane.add(KEY, before + region.length, [stamp(a)], 1)
        made.plane.open(HANDLE, KEY)
        assert made.plane.publish_bytes(KEY, 0, b"z" * before) if before else True
        assert region.publish(made, before)
        whole = b"z" * before + region.model(content)
        places = [
            before + n * region.frame.size + max(0, region.frame.sum_at) + d for n in range(3) for d in (-1, 1, 3)
        ]
        for offset, size in [
            *((at, LONGEST) for at in range(0, len(whole), LONGEST)),
            *((max(0, at), 2) for at in places),
            *reads,
        ]:
            assert made.served(offset, size, a) == whole[offset : offset + size], (offset, size)


def grains(count: int, *, host: int = 0) -> Framed:
    """Return grains of a VMDK, all from one run of a file."""
    size = VMDK_FRAME.payload
    return Framed(VMDK_FRAME, count * VMDK_FRAME.size, [(0, count * size, host, 0)], [7 * size])


@pytest.mark.parametrize("step", [4 * KIB, 128 * KIB, LONGEST])
def test_grains_of_a_vmdk_in_any_cuts(plane: Wired, tmp_path: Path, step: int) -> None:
    region = grains(40)
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, region.length, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert region.publish(plane)
        whole = region.model(A)
        for offset in range(0, region.length, step):
            assert plane.served(offset, step, a) == whole[offset : offset + step]


@pytest.mark.parametrize("content", [b"\xff" * MIB, bytes(MIB)], ids=["greatest", "zeros"])
def test_the_sums_of_the_greatest_and_the_least_bytes(plane: Wired, tmp_path: Path, content: bytes) -> None:
    region = grains(5)
    with files(tmp_path, content) as (a,):
        plane.plane.add(KEY, region.length, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert region.publish(plane)
        assert plane.served(0, LONGEST, a) == region.model(content)[:LONGEST]


def test_what_the_plane_cannot_know_python_is_asked_for(plane: Wired, tmp_path: Path) -> None:
    """Packed data, and the number of a frame in which no piece begins or goes on."""
    packed, alone = grains(2), replace(grains(3), pieces=[(0, 10, 0, 0)], guests=[0])
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, alone.length, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert packed.publish(plane, kind=COMPRESSED)
        assert isinstance(plane.read(30, 10), Asked)
        assert isinstance(plane.read(VMDK_FRAME.sum_at, 1), Asked)
        assert plane.served(0, 19) == packed.model(A)[:19]
        assert alone.publish(plane)
        assert plane.served(0, 100, a) == framed(VMDK_FRAME, A[:10].ljust(VMDK_FRAME.payload, b"\0"), [0])[:100]
        assert isinstance(plane.read(VMDK_FRAME.size, 1), Asked)


def test_more_pieces_than_a_plan_takes_are_pythons(plane: Wired, tmp_path: Path) -> None:
    """Also those that are only read for a sum."""
    scattered = [(n * 64, n * 64 + 32, n * 512, 0) for n in range(1024)]
    region = Framed(VMDK_FRAME, VMDK_FRAME.size, scattered, [n * 64 for n in range(1024)])
    with files(tmp_path, A) as (a,):
        plane.plane.add(KEY, region.length, [stamp(a)], 1)
        plane.plane.open(HANDLE, KEY)
        assert region.publish(plane)
        assert plane.served(19, 4000, a) == region.model(A)[19:4019]
        assert isinstance(plane.read(VMDK_FRAME.sum_at, 4), Asked)


SOUND = Frame(100, 30, ((10, 30), (50, 60)), ((8, b"ab"), (30, b"cd")), 0, 60)


@pytest.mark.parametrize(
    "frame",
    [
        SOUND._replace(size=59),
        SOUND._replace(size=63),
        SOUND._replace(size=(1 << 30) + 1, sum_at=-1),
        SOUND._replace(size=(128 << 10) + 1),
        SOUND._replace(payload=29),
        SOUND._replace(payload=0, runs=()),
        SOUND._replace(runs=((10, 30), (29, 39))),
        SOUND._replace(runs=((50, 60), (10, 30))),
        SOUND._replace(runs=((10, 40), (50, 50))),
        SOUND._replace(runs=((-1, 19), (50, 60))),
        SOUND._replace(runs=((10, 20), (30, 40), (50, 60))),
        SOUND._replace(literals=((29, b"x"),)),
        SOUND._replace(literals=((9, b"xy"),)),
        SOUND._replace(literals=((-1, b"x"),)),
        SOUND._replace(literals=((99, b"xy"),)),
        SOUND._replace(literals=((60, bytes(513)),), size=1000),
        SOUND._replace(literals=((0, b"x"),) * 5),
        SOUND._replace(number_at=3),
        SOUND._replace(number_at=-2),
        SOUND._replace(sum_at=59),
        SOUND._replace(sum_at=97),
        SOUND._replace(sum_at=-2),
    ],
)
def test_a_frame_whose_parts_do_not_fit_is_an_error(plane: Wired, frame: Frame) -> None:
    plane.plane.add(KEY, 10_000, [(0, 0, 0, 0)], 1)
    region = Framed(frame, 100, [(0, 30, 0, 0)], [0])
    with pytest.raises(ValueError, match="the frame do not fit"):
        region.publish(plane)
    assert Framed(SOUND, 100, [(0, 30, 0, 0)], [0]).publish(plane)


def test_pieces_beyond_what_the_frames_carry_are_not_kept(plane: Wired) -> None:
    plane.plane.add(KEY, 10_000, [(0, 0, 0, 0)], 1)
    assert Framed(SOUND, 101, [(0, 60, 0, 0)], [0]).publish(plane)
    assert not Framed(SOUND, 100, [(0, 31, 0, 0)], [0]).publish(plane)
    assert not plane.plane.covers(KEY, 101, 102)


def test_what_is_published_in_frames_is_let_go_of(plane: Wired) -> None:
    plane.plane.add(KEY, 10_000, [(0, 0, 0, 0)], 1)
    arrays: Any = *pieces((0, 30, 0, 0)), np.array([0], np.int64)
    before = [sys.getrefcount(each) for each in arrays]
    assert plane.plane.publish_framed(KEY, 0, 100, arrays, SOUND, 10)
    assert [sys.getrefcount(each) for each in arrays] > before
    with pytest.raises(TypeError):
        plane.plane.publish_framed(KEY, 0, 100, arrays[:5], SOUND, 10)
    with pytest.raises(ValueError, match="was expected"):
        plane.plane.publish_framed(KEY, 0, 100, (*arrays[:5], np.array([0], np.int32)), SOUND, 10)
    plane.plane.withdraw(KEY)
    assert [sys.getrefcount(each) for each in arrays] == before
