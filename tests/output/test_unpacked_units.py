"""Compressed clusters of one request are inflated side by side, each once, and errors in any of them arrive."""

import gc
import itertools
import multiprocessing
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

import vdifs
from tests.support.builder import make
from vdifs.errors import FormatError
from vdifs.formats.qcow2.inflate import Inflater
from vdifs.output import unpacked_units
from vdifs.output.process_caches import unit_cache, window_cache, workers
from vdifs.output.workers import Workers

MIB = 1 << 20
CLUSTERS = 16
T = TypeVar("T")
Hook = Callable[[bytes], object]


@pytest.fixture
def image(tmp_path: Path) -> Iterator[vdifs.Image]:
    """An image of 16 compressed clusters of 64 KiB, each of its own byte, as a raw disk."""
    path = tmp_path / "packed.qcow2"
    make(path, MIB, *[f"write -c -P {index + 1} {index * 64}k 64k" for index in range(CLUSTERS)])
    with vdifs.open(path, view="raw") as opened:
        yield opened


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """Have a function called with the packed bytes before each cluster is inflated; four threads may do so."""
    monkeypatch.setattr(unpacked_units, "workers", Workers(4))
    inflate = Inflater.inflate

    def install(before: Hook) -> None:
        def hooked(self: Inflater, packed: bytes) -> bytes:
            before(packed)
            return inflate(self, packed)

        monkeypatch.setattr(Inflater, "inflate", hooked)

    return install


def expected() -> bytes:
    return b"".join(bytes([index + 1]) * 65536 for index in range(CLUSTERS))


def test_clusters_of_one_request_are_inflated_side_by_side(image: vdifs.Image, hook: Callable[[Hook], None]) -> None:
    """Each of four threads waits for the other three: one alone would wait in vain."""
    together = threading.Barrier(4, timeout=100)
    hook(lambda _: together.wait())
    assert image.read_at(0, MIB) == expected()


def test_a_cluster_that_several_ask_for_is_inflated_once(image: vdifs.Image, hook: Callable[[Hook], None]) -> None:
    seen: list[bytes] = []
    hook(seen.append)
    with ThreadPoolExecutor(8) as readers:
        parts = list(readers.map(lambda at: image.read_at(at, 4096), range(0, MIB, 4096)))
    assert b"".join(parts) == expected()
    assert len(seen) == CLUSTERS


@pytest.mark.parametrize("damaged", range(4))
def test_an_error_in_any_share_arrives_when_nobody_writes_any_more(
    image: vdifs.Image, hook: Callable[[Hook], None], damaged: int
) -> None:
    lock, count = threading.Lock(), itertools.count()

    def fail_one(_: bytes) -> None:
        with lock:
            number = next(count)
        if number == damaged:
            raise FormatError("planted")
        threading.Event().wait(0.02)

    hook(fail_one)
    with pytest.raises(FormatError, match=r"packed\.qcow2: compressed cluster at 0x[0-9a-f]+: planted"):
        image.read_at(0, MIB)
    before = next(count)
    threading.Event().wait(0.1)
    assert next(count) == before + 1, "a cluster was inflated after the read had ended"


@pytest.mark.parametrize("damaged", range(4))
def test_a_failed_request_is_gone_with_its_error(
    image: vdifs.Image, hook: Callable[[Hook], None], damaged: int
) -> None:
    """A circle of error and frames would keep megabytes of packed clusters until the next collection."""
    count = itertools.count()

    def fail_one(_: bytes) -> None:
        if next(count) == damaged:
            raise FormatError("planted")

    hook(fail_one)
    gc.collect()
    gc.disable()
    try:
        error = fail_to_read(image)
        end = time.monotonic() + 10  # a thread of the pool lets go of it once it gets the processor again
        while error() is not None and time.monotonic() < end:
            time.sleep(0.01)
        assert error() is None
    finally:
        gc.enable()


def fail_to_read(image: vdifs.Image) -> weakref.ref[FormatError]:
    try:
        image.read_at(0, MIB)
    except FormatError as error:
        return weakref.ref(error)
    raise AssertionError("it was read")


def test_a_request_for_many_clusters_holds_few_packed_ones(
    image: vdifs.Image, hook: Callable[[Hook], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked_units, "_AT_ONCE", 4 << 16)
    shares: list[int] = []
    whole = Workers.side_by_side

    def counted(self: Workers, work: Callable[[Sequence[T]], None], jobs: Sequence[T]) -> None:
        shares.append(len(jobs))
        whole(self, work, jobs)

    monkeypatch.setattr(Workers, "side_by_side", counted)
    assert image.read_at(0, MIB) == expected()
    assert max(shares) == 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("locked", [False, True], ids=["after reading", "while others read"])
def test_a_forked_process_reads_what_was_open_and_what_it_opens(locked: bool, image: vdifs.Image) -> None:
    """Of the parent's threads none is in the child: neither those of the pool, nor who held a lock."""
    path = image.chain.files[0].path
    assert image.read_at(0, MIB) == expected()

    def read_in_child() -> None:
        with vdifs.open(path, view="raw") as opened:
            assert image.read_at(0, MIB) == opened.read_at(0, MIB) == expected()

    child = multiprocessing.get_context("fork").Process(target=read_in_child)
    with ExitStack() as held:
        if locked:
            for lock in (window_cache._lock, unit_cache._lock, workers._beginning, *workers._locks):
                held.enter_context(lock)
        child.start()
    child.join(100)
    if child.exitcode is None:
        child.kill()
        child.join()
    assert child.exitcode == 0
    assert image.read_at(0, MIB) == expected()


def test_damage_in_many_clusters_is_one_line_in_a_log(image: vdifs.Image, hook: Callable[[Hook], None]) -> None:
    def fail(_: bytes) -> None:
        raise FormatError("damaged")

    hook(fail)
    about = set()
    for index in range(CLUSTERS):
        with pytest.raises(FormatError, match="compressed cluster at") as caught:
            image.read_at(index * 65536, 512)
        about.add(caught.value.about)
    assert len(about) == 1
    assert about != {None}
