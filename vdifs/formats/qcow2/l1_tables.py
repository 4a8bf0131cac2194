"""L1 tables in memory, each once for all who have it open: a file with many names may be opened as many times."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from weakref import WeakValueDictionary

from vdifs.formats.load import Load
from vdifs.formats.qcow2.table_parts import TableParts

__all__ = ["L1Table", "shared_table"]


@dataclass(frozen=True, eq=False)
class L1Table:
    """Where its L2 tables lie, and how much they hold. Kept as long as a layer holds it."""

    parts: TableParts
    load: Load

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.parts.nbytes + self.load.nbytes


_open: WeakValueDictionary[Hashable, L1Table] = WeakValueDictionary()
_lock = Lock()


def shared_table(identity: Hashable, load: Callable[[], L1Table]) -> L1Table:
    """Return the table of that identity, which is loaded where no layer holds it now."""
    with _lock:
        known = _open.get(identity)
    if known is not None:
        return known
    table = load()
    with _lock:
        return _open.setdefault(identity, table)
