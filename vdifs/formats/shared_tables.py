"""The upper tables of files in memory, each once for all who have it open: a file may have as many names as opens."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from weakref import WeakValueDictionary

from vdifs.formats.load import Load
from vdifs.formats.table_parts import TableParts

__all__ = ["Tables", "shared_tables"]


@dataclass(frozen=True, eq=False)
class Tables:
    """Where the lower tables of a file lie, and how much they hold. Kept as long as a layer holds it."""

    parts: TableParts
    load: Load

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.parts.nbytes + self.load.nbytes


_open: WeakValueDictionary[Hashable, Tables] = WeakValueDictionary()
_lock = Lock()


def shared_tables(identity: Hashable, load: Callable[[], Tables]) -> Tables:
    """Return the tables of that identity, which are loaded where no layer holds them now."""
    with _lock:
        known = _open.get(identity)
    if known is not None:
        return known
    tables = load()
    with _lock:
        return _open.setdefault(identity, tables)
