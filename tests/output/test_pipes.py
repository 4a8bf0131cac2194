"""Into a pipe goes the image, and never a byte that it does not hold, whatever becomes of the sources."""

import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

import vdifs
from tests.support import oracle
from tests.support.builder import make
from vdifs.errors import SourceChangedError
from vdifs.output.export import transfer
from vdifs.output.export.transfer import to_stream
from vdifs.output.image import Image

MIB = 1 << 20


class Pipe(NamedTuple):
    reading: int
    writing: int

    def rest(self) -> bytes:
        """Read all that comes until the writing end is closed."""
        found = []
        while data := os.read(self.reading, MIB):
            found.append(data)
        return b"".join(found)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(*os.pipe())
    yield made
    for descriptor in made:
        try:
            os.close(descriptor)
        except OSError:
            pass  # a test has closed it


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A chain with data in long runs and short ones, compressed, aligned and not, and a last cluster cut short."""
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(os.urandom(9 * MIB + 700))
    make(top, 12 * MIB, backing=("base.raw", "raw"), cluster_size=4096)
    commands = ["write -P 1 3M 1M", "write -z 5M 300k", "write -c -P 3 6M 4k", "write -P 4 10M 1536"]
    oracle.qemu_io(top, [*commands, *(f"write -P 7 {7 * MIB + at * 40_960} 4k" for at in range(20))])
    return top


def in_pipe(image: Image, pipe: Pipe) -> bytes:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(pipe.rest)
        to_stream(image, pipe.writing)
        os.close(pipe.writing)
        return found.result()


@pytest.mark.parametrize("view", ["qcow2", "raw"])
def test_what_comes_out_of_the_pipe_is_the_image(top: Path, pipe: Pipe, view: str) -> None:
    with vdifs.open(top, view="raw" if view == "raw" else "qcow2") as image:
        assert in_pipe(image, pipe) == image.read_at(0, image.size)


def test_a_delta_too(top: Path, pipe: Pipe) -> None:
    with vdifs.open(top, base=top.parent / "base.raw") as image:
        assert in_pipe(image, pipe) == image.read_at(0, image.size)


def test_a_pipe_that_does_not_block_is_waited_for(top: Path, pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    with vdifs.open(top) as image:
        assert in_pipe(image, pipe) == image.read_at(0, image.size)


def test_a_small_pipe_is_enlarged(tmp_path: Path, pipe: Pipe) -> None:
    fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 4096)
    make(tmp_path / "a.qcow2", MIB)
    with vdifs.open(tmp_path / "a.qcow2") as image:
        to_stream(image, pipe.writing)  # there is no reader
        os.close(pipe.writing)
        assert pipe.rest() == image.read_at(0, image.size)


def test_a_large_pipe_is_not_made_smaller(top: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_PIPE_SIZE", 4096)
    before = fcntl.fcntl(pipe.writing, fcntl.F_GETPIPE_SZ)
    assert before > 4096
    with vdifs.open(top) as image:
        assert in_pipe(image, pipe) == image.read_at(0, image.size)
        assert fcntl.fcntl(pipe.reading, fcntl.F_GETPIPE_SZ) == before


def test_what_is_in_pipes_at_the_end_is_nobody_elses(tmp_path: Path, pipe: Pipe) -> None:
    """The reader passes the pages themselves on into a pipe of its own, where they are when the source is written."""
    source = tmp_path / "a.raw"
    contents = os.urandom(4 * MIB)
    source.write_bytes(contents)
    further = Pipe(*os.pipe())
    fcntl.fcntl(further.writing, fcntl.F_SETPIPE_SZ, MIB)
    with vdifs.open(source, view="raw") as image, ThreadPoolExecutor(1) as pool:
        done = pool.submit(to_stream, image, pipe.writing)
        found = b""
        while len(found) < 5 * MIB // 2:
            found += os.read(pipe.reading, 65536)
        moved = 0
        while moved < MIB:
            moved += os.splice(pipe.reading, further.writing, MIB - moved)
        done.result(100)  # the rest is in the pipe
        with source.open("r+b") as file:  # the same pages, as no truncation gives the file others
            file.write(bytes(len(contents)))
        os.close(pipe.writing)
        os.close(further.writing)
        assert found + further.rest() + pipe.rest() == contents
    os.close(further.reading)


def test_a_source_that_is_written_meanwhile_is_told_before_any_of_it_comes_out(tmp_path: Path, pipe: Pipe) -> None:
    source = tmp_path / "a.raw"
    contents = os.urandom(8 * MIB)
    source.write_bytes(contents)
    with vdifs.open(source, view="raw") as image, ThreadPoolExecutor(2) as pool:
        done = pool.submit(to_stream, image, pipe.writing)
        found = os.read(pipe.reading, 4096)
        with source.open("r+b") as file:
            file.write(bytes(len(contents)))
        rest = pool.submit(pipe.rest)
        with pytest.raises(SourceChangedError):
            done.result()
        os.close(pipe.writing)
        found += rest.result()
        assert found == contents[: len(found)]
        assert len(found) < len(contents)


def test_a_reader_that_goes_away_ends_it(top: Path, pipe: Pipe) -> None:
    os.close(pipe.reading)
    with vdifs.open(top) as image, pytest.raises(BrokenPipeError):
        to_stream(image, pipe.writing)
