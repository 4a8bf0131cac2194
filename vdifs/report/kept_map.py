"""The JSON of `map`, kept for all names of the same files: a file may stand under a thousand, and a map be megabytes.

    rows    {"start": 0, ..., "offset": 327680, NAME}      NAME: the file's, filled in for each image anew

Of a map that is too long, only how long it is at least is kept.
"""

import json
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from vdifs.catalog.entry import Entry
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.output.cache import ByteBoundedCache
from vdifs.pace import give_way
from vdifs.report.map import map_runs, run_json
from vdifs.wording import json_name

__all__ = ["KeptMap"]

_ROWS_AT_ONCE = 256
_QUICKLY = 1
"""The level of zlib: rows are so much alike that a higher one saves little."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """A map without names, of many rows perhaps only the first ones.

    packed: with marks where names belong, compressed; None if not all is there. plain: bytes of the rows alone. named:
    how often the name of each file of the chain belongs in them.
    """

    packed: bytes | None
    plain: int
    named: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return 1024 + 8 * len(self.named) + len(self.packed or b"")

    def length(self, names: Sequence[bytes]) -> int:
        """Return how many bytes they have, or have at least, with those names."""
        return self.plain + sum(count * len(name) for count, name in zip(self.named, names, strict=True))

    def text(self, names: Sequence[bytes]) -> bytes | None:
        """Return them with those names; None if not all are there."""
        if self.packed is None:
            return None
        found = zlib.decompress(self.packed)
        for depth, name in enumerate(names):
            if self.named[depth]:
                found = found.replace(_mark(depth), name)
        return found


class KeptMap:
    """The maps of images, the last ones kept."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._rows: ByteBoundedCache[_Rows] = ByteBoundedCache(1 << 20, lambda rows: rows.nbytes)

    def text(self, policy: Policy, entry: Entry, most: int) -> bytes | None:
        """Return the map of the whole disk of an image as JSON, None if it has more than `most` bytes.

        Raises FormatError, StorageError, SourceChangedError and what keeps its chain from being opened.
        """
        with Chain.open(policy, entry.file_path, entry.snapshot, stated=entry.format) as chain:
            text = self._of_chain(chain, most)
            chain.check_unchanged()
        return text

    def _of_chain(self, chain: Chain, most: int) -> bytes | None:
        names = [json.dumps(json_name("filename", each.path))[1:-1].encode() for each in chain.data_files]
        key: Hashable = tuple(member.layer.identity for member in chain.members)
        rows = self._rows.get(key)
        if rows is None or (rows.packed is None and rows.length(names) <= most):
            rows = _made(chain, names, most)
            chain.check_unchanged()
            self._rows.put(key, rows)
        return None if rows.length(names) > most else rows.text(names)


def _made(chain: Chain, names: Sequence[bytes], most: int) -> _Rows:
    text, named, marks, length = bytearray(), [0] * len(names), 0, 0
    for number, run in enumerate(map_runs(chain)):
        if number % _ROWS_AT_ONCE == 0:
            give_way()
        row = json.dumps(run_json(run)).encode()
        length += len(row) + 2
        if run.offset is not None:
            mark = _mark(run.file)
            row = row[:-1] + b", " + mark + b"}"
            named[run.file] += 1
            marks += len(mark)
            length += 2 + len(names[run.file])
        text += (b",\n" if text else b"[") + row
        if length > most:
            return _Rows(None, len(text) - marks, tuple(named))
    text += b"]\n" if text else b"[]\n"
    return _Rows(zlib.compress(text, _QUICKLY), len(text) - marks, tuple(named))


def _mark(file: int) -> bytes:
    """Return what stands for a file's name: no JSON has a zero byte."""
    return b"\0%d\0" % file
