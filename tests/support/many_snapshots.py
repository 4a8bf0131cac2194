"""Images that cost little to make and much to read: very many snapshots, or very many L2 tables."""

import os
from pathlib import Path

from tests.support import qcow2
from tests.support.builder import Tables

_BITS = 16


def write_snapshots(path: Path, count: int) -> None:
    """Write an image of 1 MiB, all zeros, with `count` snapshots of 1 MiB that share an L1 table: `s000000` and on."""
    cluster = 1 << _BITS
    tables = Tables(_BITS, 1 << 20, {0: 1}, data_clusters=0)
    tables.write(path)
    at = -(-path.stat().st_size // cluster) * cluster
    header = tables.header(nb_snapshots=count, snapshots_offset=at)
    l1_table = qcow2.value(header, "l1_table_offset")
    fixed = qcow2.SNAPSHOT.pack(l1_table, 1, 1, 7, 1_700_000_000, 0, 0, 0, 0)
    with path.open("r+b") as file:
        file.write(header)
        file.seek(at)
        file.write(b"".join(fixed + b"1s%06d" % number for number in range(count)))


def write_l2_tables(path: Path, count: int, cluster_bits: int = 9) -> None:
    """Write an image with `count` L2 tables, in which data and zeros alternate."""
    per_table = (1 << cluster_bits) // 8
    tables = Tables(cluster_bits, (count * per_table) << cluster_bits, {}, data_clusters=1)
    data = (2 + -(-count * 8 // tables.cluster_size) + count) << cluster_bits
    words = qcow2.words(*([data | qcow2.COPIED, qcow2.ZERO] * (per_table // 2)))
    with path.open("wb") as file:
        file.write(tables.header())
        file.seek(2 << cluster_bits)
        first = data - (count << cluster_bits)
        file.write(qcow2.words(*((first + (number << cluster_bits)) | qcow2.COPIED for number in range(count))))
        file.seek(first)
        for _ in range(count):
            file.write(words)
        file.write(b"x" * tables.cluster_size)


def link(path: Path, names: int) -> None:
    """Give a file so many more names: `0001-` and on before its own."""
    for number in range(1, names + 1):
        os.link(path, path.with_name(f"{number:04}-{path.name}"))
