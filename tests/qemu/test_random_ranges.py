"""Random ranges of synthetic files, through every way of reading, against the whole file read once from its start."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle, stamps
from tests.support.chains import Shape, SourceChain, make_chain
from tests.support.drafts import log_uniform
from tests.support.units import KIB, MIB

CHAINS = 10
READS = 10_000
READS_LONG = 1_000_000
SHAPE = Shape(depth=range(3, 7), largest_disk=16 * MIB)

View = Callable[[], vdifs.Image]


def views(chain: SourceChain) -> Iterator[View]:
    """Yield the ways to open the top image of a chain: full, raw, in other clusters and each delta."""
    opened = partial(vdifs.open, chain.images[0].path, trusted=[chain.folder])
    yield opened
    yield partial(opened, view="raw")
    yield partial(opened, cluster_size=4 * KIB)
    for base in chain.images:
        yield partial(opened, base=base.path, backing_name="base")


@contextmanager
def opened_views(chain: SourceChain) -> Iterator[list[tuple[vdifs.Image, bytes]]]:
    """Give each view of a chain with its whole contents."""
    with ExitStack() as stack:
        images = [stack.enter_context(view()) for view in views(chain)]
        yield [(image, b"".join(image.stream())) for image in images]


@pytest.fixture
def chain(tmp_path: Path, seed: int) -> SourceChain:
    return make_chain(tmp_path / "source", seed, SHAPE)


def random_range(rng: Random, size: int) -> tuple[int, int]:
    """Return (offset, length): any offset, or one near the start, where the tables are; it may pass the end."""
    return rng.choice([rng.randint(0, size), log_uniform(rng, 1, size + 1) - 1]), log_uniform(rng, 1, MIB)


def prove_read(opened: list[tuple[vdifs.Image, bytes]], rng: Random) -> None:
    """Prove one random read of one of the images, by read_at or readinto_at."""
    image, contents = rng.choice(opened)
    offset, length = random_range(rng, len(contents))
    wanted = contents[offset : offset + length]
    if rng.random() < 0.5:
        found = image.read_at(offset, length)
    else:
        buffer = bytearray(b"\xaa") * length
        count = image.readinto_at(offset, buffer)
        assert buffer[count:] == b"\xaa" * (length - count), f"written beyond {count} bytes, {length} at {offset:#x}"
        found = bytes(buffer[:count])
    if found != wanted:
        pytest.fail(f"{length} bytes at {offset:#x}: {stamps.difference(found, wanted, offset)}")


def reads(config: pytest.Config) -> int:
    """Return the number of reads for each chain."""
    return (READS_LONG if config.getoption("--long") else READS) // CHAINS


@pytest.mark.seeds(CHAINS)
@pytest.mark.timeout(1200)
def test_any_range_is_a_slice_of_the_whole(chain: SourceChain, rng: Random, pytestconfig: pytest.Config) -> None:
    with chain.explained(), opened_views(chain) as opened:
        for _ in range(reads(pytestconfig)):
            prove_read(opened, rng)


@pytest.mark.seeds(2, long=10)
def test_four_readers_at_once_read_what_one_reads(chain: SourceChain, seed: int, pytestconfig: pytest.Config) -> None:
    def reader(number: int) -> None:
        own = Random(seed * 4 + number)
        for _ in range(reads(pytestconfig) // 4):
            prove_read(opened, own)

    with chain.explained(), opened_views(chain) as opened, ThreadPoolExecutor(4) as pool:
        list(pool.map(reader, range(4)))


@pytest.mark.seeds(4, long=20)
def test_the_raw_view_is_what_qemu_converts_to_raw(chain: SourceChain, tmp_path: Path) -> None:
    with chain.explained():
        for number, image in enumerate(chain.images):
            if not chain.standalone(number):
                continue
            contents = oracle.materialize(image.path, tmp_path / f"{number}.raw", format=image.format).read_bytes()
            with vdifs.open(image.path, view="raw", trusted=[chain.folder]) as opened:
                problem = stamps.difference(b"".join(opened.stream()), contents, 0)
            assert problem is None, problem


@pytest.mark.seeds(3, long=20)
def test_the_file_object_reads_and_seeks_like_a_file(chain: SourceChain, rng: Random) -> None:
    with chain.explained(), opened_views(chain) as opened:
        for image, contents in opened:
            prove_file_object(image, contents, rng)


def prove_file_object(image: vdifs.Image, contents: bytes, rng: Random) -> None:
    with image.file() as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        for _ in range(50):
            offset, length = random_range(rng, len(contents))
            assert file.seek(offset) == offset
            assert file.read(length) == contents[offset : offset + length]
            assert file.tell() == max(offset, min(offset + length, len(contents)))
        assert file.seek(-min(100, len(contents)), 2) == max(len(contents) - 100, 0)
        assert file.read() == contents[-100:]
        assert file.read(1) == b""


@pytest.mark.seeds(2, long=10)
@pytest.mark.parametrize("chunk_size", [1, 511, 65537, 4 * MIB], ids=str)
def test_a_stream_has_the_same_bytes_whatever_its_chunks(chain: SourceChain, chunk_size: int) -> None:
    with chain.explained(), opened_views(chain) as opened:
        for image, contents in opened:
            pieces = shortened(image, chunk_size)
            assert all(len(piece) == chunk_size for piece in pieces[:-1])
            assert b"".join(pieces) == contents[: sum(map(len, pieces))]


def shortened(image: vdifs.Image, chunk_size: int) -> list[bytes]:
    """Return the pieces of a stream; of very small ones only the first few thousand."""
    count = math.ceil(image.size / chunk_size)
    return [bytes(piece) for piece, _ in zip(image.stream(chunk_size), range(min(count, 5_000)), strict=False)]


@pytest.mark.seeds(3, long=20)
def test_opening_again_gives_the_same_bytes_and_etag(chain: SourceChain) -> None:
    with chain.explained():
        for view in views(chain):
            with view() as first, view() as second:
                assert (first.size, first.etag) == (second.size, second.etag)
                assert b"".join(first.stream()) == b"".join(second.stream())
