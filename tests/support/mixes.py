"""Images of any grain, size and sparseness, with whole L2 tables written at once: QEMU would take minutes to make them.

All data lie in the one data cluster of a file, which QEMU and vdifs read, though no writer would leave it so.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.support import qcow2
from tests.support.builder import write_blank
from vdifs.formats.qcow2.geometry import Geometry

GRANULE = 4096
L1_MOST = 4 << 20


class Filling(StrEnum):
    """What is on the disk. All but FAR fill L2 tables that are neighbours, from the beginning or up to the end."""

    NOTHING = "nothing"
    FAR = "clusters far apart"
    DENSE = "data"
    STRIPED = "every second cluster"
    ZEROS = "zeros"
    PREALLOCATED = "preallocated"
    HOLLOW = "tables of zeros"


@dataclass(frozen=True)
class Mixed:
    """One layer. entries: about so many L2 entries in all; at_end: whether they are those of the end of the disk."""

    cluster_bits: int
    extended: bool
    size: int
    filling: Filling
    entries: int
    at_end: bool = False

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.cluster_bits, self.size, self.extended)

    @property
    def fits(self) -> bool:
        return self.geometry.l1_size <= L1_MOST

    @property
    def file_size(self) -> int:
        """The length of the file, about."""
        tables = len(self._tables())
        return tables * (self.geometry.l2_coverage if self.filling is Filling.PREALLOCATED else 2 << self.cluster_bits)

    def write(self, path: Path, below: Path | None) -> None:
        """Write it as an image over `below`."""
        g = self.geometry
        cluster = g.cluster_size
        tables = self._tables()
        l1_at = -(-max(4 * GRANULE, cluster) // cluster) * cluster
        data_at = l1_at + -(-g.l1_size * 8 // cluster) * cluster
        l2_at = data_at + cluster
        write_blank(
            path,
            below.name if below else None,
            "qcow2" if below else None,
            cluster_bits=self.cluster_bits,
            size=self.size,
            l1_size=g.l1_size,
            l1_table_offset=l1_at,
            incompatible_features=qcow2.EXTENDED_L2 if self.extended else 0,
            refcount_table_offset=max(cluster, 0x10000),
        )
        free_at = l2_at + len(tables) * cluster
        with path.open("r+b") as file:
            file.truncate(free_at)
            file.seek(data_at)
            file.write(b"\x55" * cluster)
            for number, index in enumerate(tables.tolist()):
                words = self._table(index, number, data_at, free_at)
                if self.filling is Filling.FAR:  # leave holes
                    used = np.flatnonzero(words)
                    file.seek(l2_at + number * cluster + int(used[0]) * 8)
                    file.write(words[used[0] : used[-1] + 1].tobytes())
                else:
                    file.seek(l2_at + number * cluster)
                    file.write(words.tobytes())
                at = l2_at + number * cluster
                file.seek(l1_at + index * 8)
                file.write(qcow2.words(at | qcow2.COPIED))
            if self.filling is Filling.PREALLOCATED:
                file.truncate(free_at + len(tables) * g.l2_coverage)

    def _tables(self) -> npt.NDArray[np.int64]:
        g = self.geometry
        count = min(g.l1_size, max(1, self.entries // (1 if self.filling is Filling.FAR else g.l2_entries)))
        if self.filling is Filling.NOTHING:
            count = 0
        if self.filling is Filling.FAR:
            return np.unique(np.linspace(0, g.l1_size - 1, count).astype(np.int64))
        return np.arange(count) + (g.l1_size - count if self.at_end else 0)

    def _table(self, index: int, number: int, data_at: int, free_at: int) -> npt.NDArray[np.uint64]:
        """Return the big-endian words of an L2 table."""
        g = self.geometry
        entries, bitmaps = np.zeros(g.l2_entries, np.uint64), np.zeros(g.l2_entries, np.uint64)
        data, half = np.uint64(data_at | qcow2.COPIED), np.uint64(0x5555_5555)
        match self.filling:
            case Filling.FAR:
                at = index * 7 % min(g.l2_entries, g.clusters - index * g.l2_entries)
                entries[at], bitmaps[at] = data, half
            case Filling.DENSE:
                entries[:], bitmaps[:] = data, np.uint64(0xFFFF_FFFF)
            case Filling.STRIPED:
                entries[:: 1 if self.extended else 2], bitmaps[:] = data, half
            case Filling.ZEROS:
                entries[:], bitmaps[:] = np.uint64(0 if self.extended else qcow2.ZERO), np.uint64(0xFFFF_FFFF << 32)
            case Filling.PREALLOCATED:
                first = free_at + number * g.l2_coverage
                places = (first + np.arange(g.l2_entries) * g.cluster_size).astype(np.uint64)
                entries[:] = places | np.uint64(qcow2.COPIED)
                bitmaps[:] = np.uint64(0xFFFF_FFFF)
            case Filling.HOLLOW | Filling.NOTHING:
                pass
        beyond = max(0, (index + 1) * g.l2_entries - g.clusters)
        if beyond:
            entries[-beyond:] = bitmaps[-beyond:] = 0
        words = np.stack([entries, bitmaps], 1).reshape(-1) if self.extended else entries
        return words.astype(">u8")


def write_layers(folder: Path, layers: list[Mixed]) -> list[Path]:
    """Write layers, top first; return their paths, top first."""
    paths: list[Path] = []
    for number, layer in enumerate(reversed(layers)):
        path = folder / f"{number}.qcow2"
        layer.write(path, paths[0] if paths else None)
        paths.insert(0, path)
    return paths
