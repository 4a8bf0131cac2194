"""A cache bounded in bytes, least recently used out first, shared by all images of a process."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

__all__ = ["ByteBoundedCache"]

V = TypeVar("V")


class ByteBoundedCache(Generic[V]):
    """Values by key, at most `limit` bytes of them as `size_of` counts. Safe to use from several threads."""

    def __init__(self, limit: int, size_of: Callable[[V], int]) -> None:
        self._values: LRUCache[Hashable, V] = LRUCache(limit, size_of)
        self._lock = Lock()

    def get(self, key: Hashable) -> V | None:
        """Return the value of `key`, None if it is not there (any more)."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: V) -> None:
        """Keep `value`, unless it is larger than the whole cache."""
        with self._lock:
            if self._values.getsizeof(value) <= self._values.maxsize:
                self._values[key] = value
