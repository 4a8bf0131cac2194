"""The cache: bounded in bytes, the least recently used goes first, safe among threads."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdifs.output.cache import ByteBoundedCache


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12))))
def test_it_holds_no_more_bytes_than_its_limit(puts: list[tuple[int, int]]) -> None:
    cache: ByteBoundedCache[bytes] = ByteBoundedCache(20, len)
    for key, size in puts:
        cache.put(key, bytes(size))
        held = [value for key in range(9) if (value := cache.get(key)) is not None]
        assert sum(map(len, held)) <= 20
        assert cache.get(key) == bytes(size)


def test_the_least_recently_used_goes_first() -> None:
    cache: ByteBoundedCache[bytes] = ByteBoundedCache(20, len)
    cache.put("a", bytes(8))
    cache.put("b", bytes(8))
    cache.get("a")
    cache.put("c", bytes(8))
    assert cache.get("b") is None
    assert cache.get("a") == cache.get("c") == bytes(8)


def test_a_value_larger_than_the_cache_is_not_kept() -> None:
    cache: ByteBoundedCache[bytes] = ByteBoundedCache(20, len)
    cache.put("a", bytes(8))
    cache.put("b", bytes(21))
    assert cache.get("b") is None
    assert cache.get("a") == bytes(8)


def test_threads_may_share_it() -> None:
    cache: ByteBoundedCache[bytes] = ByteBoundedCache(100, len)

    def work(number: int) -> None:
        for index in range(2000):
            cache.put((number, index % 7), bytes(index % 30))
            cache.get((number + 1, index % 7))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_in_a_process_just_forked_it_is_empty_and_free() -> None:
    cache: ByteBoundedCache[bytes] = ByteBoundedCache(100, len)
    cache.put("a", b"a")

    def look() -> None:
        assert cache.get("a") is None
        cache.put("a", b"b")

    child = multiprocessing.get_context("fork").Process(target=look)
    with cache._lock:
        child.start()
    child.join(100)
    if child.exitcode is None:
        child.kill()
        child.join()
    assert child.exitcode == 0
    assert cache.get("a") == b"a"
