"""Holes: all that lies outside the edges reads as zeros, and reading a file does not move them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.descriptors import opened
from vdifs.pace import giving_way
from vdifs.storage import holes
from vdifs.storage.holes import data_ranges

BLOCK = 1 << 16
DATA, HOLE, RESERVED = "data", "hole", "reserved"


def edges_of(path: Path) -> list[int]:
    with opened(path) as fd:
        return data_ranges(fd, path.stat().st_size).edges.tolist()  # type: ignore[no-any-return] # numpy says Any


def write_blocks(path: Path, blocks: list[str], tail: int = 0) -> bytes:
    """Write 64 KiB blocks of data, holes and reserved space, and `tail` more bytes of hole; return the contents."""
    path.unlink(missing_ok=True)  # rewriting a file in place would make ext4 flush it
    with path.open("wb") as file:
        for index, kind in enumerate(blocks):
            if kind == DATA:
                file.seek(index * BLOCK)
                file.write(b"\xda" * BLOCK)
            elif kind == RESERVED:
                os.posix_fallocate(file.fileno(), index * BLOCK, BLOCK)
        file.truncate(len(blocks) * BLOCK + tail)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on a file system that says where holes are."""
    folder = tmp_path_factory.mktemp("holes")
    write_blocks(folder / "probe", [HOLE, DATA, HOLE])
    with opened(folder / "probe") as fd:
        if os.lseek(fd, 0, os.SEEK_DATA) != BLOCK:
            pytest.skip("the file system does not say where holes are")
    return folder


def is_edge(blocks: list[str], at: int) -> bool:
    """Tell whether data begin or end at block `at`."""
    around = [False, *(kind == DATA for kind in blocks), False]
    return around[at] != around[at + 1]


@given(blocks=st.lists(st.sampled_from([DATA, HOLE]), max_size=6), tail=st.integers(0, 3 * BLOCK))
def test_data_lie_between_the_edges(folder: Path, blocks: list[str], tail: int) -> None:
    path = folder / "file"
    contents = write_blocks(path, blocks, tail)
    edges = edges_of(path)
    assert edges == [at * BLOCK for at in range(len(blocks) + 1) if is_edge(blocks, at)]
    gaps = zip([0, *edges[1::2]], [*edges[::2], len(contents)], strict=True)
    assert all(contents[low:high].count(0) == high - low for low, high in gaps)


@pytest.mark.parametrize("blocks", [[DATA, RESERVED, DATA], [RESERVED], [HOLE, RESERVED, HOLE, DATA]], ids=str)
def test_reading_reserved_space_does_not_turn_it_into_data(folder: Path, blocks: list[str]) -> None:
    path = folder / "reserved"
    write_blocks(path, blocks)
    before = edges_of(path)
    path.read_bytes()
    assert edges_of(path) == before
    assert before == [at * BLOCK for at in range(len(blocks) + 1) if is_edge(blocks, at)]


def test_what_is_written_into_reserved_space_is_data_at_once(folder: Path) -> None:
    path = folder / "written"
    write_blocks(path, [RESERVED] * 3)
    with path.open("r+b") as file:
        file.seek(BLOCK)
        file.write(b"\xda" * BLOCK)
        file.flush()
        assert edges_of(path) == [BLOCK, 2 * BLOCK]


def test_edges_beyond_the_size_are_cut(folder: Path) -> None:
    path = folder / "odd"
    path.write_bytes(b"\xda" * 1000)
    assert edges_of(path) == [0, 1000]


@pytest.mark.parametrize(("most", "runs"), [(3, 3), (2, 1)])
def test_a_file_in_too_many_pieces_is_one_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, most: int, runs: int
) -> None:
    write_blocks(folder / "pieces", [DATA, HOLE] * 3)
    monkeypatch.setattr(holes, "MAX_DATA_RUNS", most)
    edges = edges_of(folder / "pieces")
    assert edges == ([0, 6 * BLOCK] if runs == 1 else [at * BLOCK for at in range(6)])


def test_a_file_system_that_cannot_tell_gives_one_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    write_blocks(folder / "file", [DATA, HOLE, DATA])
    monkeypatch.setattr(os, "lseek", refuse)
    assert edges_of(folder / "file") == [0, 3 * BLOCK]
    (folder / "empty").touch()
    assert edges_of(folder / "empty") == []


def sets_of_runs() -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(0, 30), max_size=20)


def runs_of(members: set[int]) -> list[tuple[int, int]]:
    starts = sorted(at for at in members if at - 1 not in members)
    ends = sorted(at + 1 for at in members if at + 1 not in members)
    return list(zip(starts, ends, strict=True))


@given(sets_of_runs(), sets_of_runs())
def test_taking_holes_from_runs_is_the_difference_of_sets(data: set[int], gaps: set[int]) -> None:
    assert holes._without(runs_of(data), runs_of(gaps)) == runs_of(data - gaps)


@pytest.mark.parametrize("blocks", [[DATA, HOLE] * 4, [RESERVED, DATA] * 4], ids=["data", "reserved"])
def test_work_on_a_file_in_very_many_pieces_is_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, blocks: list[str]
) -> None:
    """Of either kind: those that SEEK_DATA tells, and the reserved ones."""
    write_blocks(folder / "very-many", blocks)
    assert len(edges_of(folder / "very-many")) == 8
    monkeypatch.setattr(holes, "_MOST_SEEKS", 2)
    assert edges_of(folder / "very-many") == [0, 8 * BLOCK]


def test_more_extents_than_one_answer_holds_are_asked_for_in_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blocks(folder / "turns", [RESERVED, DATA] * 4)
    (folder / "turns").read_bytes()
    wanted = edges_of(folder / "turns")
    monkeypatch.setattr(holes, "_EXTENTS_AT_ONCE", 1)
    assert edges_of(folder / "turns") == wanted == [at * BLOCK for at in range(1, 9)]


def test_data_that_were_appended_since_the_size_was_asked_are_none(folder: Path) -> None:
    write_blocks(folder / "grown", [HOLE, DATA, HOLE])
    with opened(folder / "grown") as fd:
        assert data_ranges(fd, BLOCK).edges.tolist() == []
        assert data_ranges(fd, BLOCK + 1).edges.tolist() == [BLOCK, BLOCK + 1]


def test_others_may_come_first_while_a_file_in_many_pieces_is_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blocks(folder / "pieces", [DATA, HOLE] * 7)
    monkeypatch.setattr(holes, "_SEEKS_AT_ONCE", 3)
    paused: list[bool] = []
    with giving_way(paused.append):
        assert len(edges_of(folder / "pieces")) == 14
    assert len(paused) == 2


def test_a_file_system_without_fiemap_counts_what_seek_data_calls_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    write_blocks(folder / "file", [DATA, HOLE, DATA])
    monkeypatch.setattr("fcntl.ioctl", refuse)
    assert edges_of(folder / "file") == [0, BLOCK, 2 * BLOCK, 3 * BLOCK]
