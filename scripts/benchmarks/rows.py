"""Every row of the table: what is compared with what, and what is wanted."""

from collections.abc import Iterator
from functools import partial

from benchmarks import copying, growing, packing, reading, small, sparse
from benchmarks.contest import Peer, Row, Target, Unit
from benchmarks.sizes import GIB, KIB, MIB, Sizes

__all__ = ["MEMORY", "all_rows"]

_CHAINS = {"": "shallow", "-scattered": "scattered"}
_FORMATS_OUT = {"vhd": "vpc", "vmdk": "vmdk"}
"""The views in other formats that are read, and what QEMU calls them."""
_STORAGE_DAEMON = "qemu-storage-daemon FUSE export"
_FLAT = "the limit, flat"
_CONVERT = "qemu-img convert"

MEMORY = Target("<=", 64 * MIB)
"""By how much a daemon's memory may grow over its idle state, whatever was asked of it."""
_CPU_IN_PYTHON = 0.41
"""What part of qemu-storage-daemon's processor time the daemon took when Python answered every read."""


def all_rows(sizes: Sizes) -> Iterator[Row]:
    """Yield the rows in the table's order."""
    yield from _reading(sizes)
    yield from _random(sizes)
    yield from _daemon(sizes)
    yield from _copying(sizes)
    yield from _sparse(sizes)
    yield from _compressed(sizes)
    yield from _packing(sizes)
    yield from _measuring()
    yield from _growing(sizes)
    yield from _crowd(sizes)
    for arguments, bound in (("--version",), 0.10), (("info", "X"), 0.25):
        yield Row(
            f"start-{arguments[0].strip('-')}",
            f"vdifs {' '.join(arguments)}, processor time",
            "s",
            ["shallow"],
            partial(small.start, arguments),
            target=Target("<=", bound),
        )


def _servers(storage_daemon: Target | None, flat: Target | None = None) -> list[Peer]:
    """Return the peers of what is read through a mount."""
    return [Peer(_STORAGE_DAEMON, storage_daemon), Peer(_FLAT, flat)]


def _at_least(bound: float) -> Target:
    return Target(">=", bound)


def _at_most(bound: float, *, time: bool = False) -> Target:
    return Target("<=", bound, time=time)


def _reading(sizes: Sizes) -> Iterator[Row]:
    for suffix, name in _CHAINS.items():
        yield Row(
            f"read{suffix}",
            f"sequential read of raw/, {name}",
            "B/s",
            [name],
            partial(reading.sequential_reading, name),
            _servers(_at_least(3), _at_most(1.3, time=True)),
            room=sizes.data,
        )
    yield Row(
        "read-full",
        "sequential read of full/, chain of 6, scattered",
        "B/s",
        ["six"],
        partial(reading.sequential_reading_full, "six"),
        _servers(_at_least(2.5), _at_most(1.4, time=True)),
        room=sizes.data * 5 // 4,
    )
    for view, kind in _FORMATS_OUT.items():
        for suffix, name in _CHAINS.items():
            yield Row(
                f"read-{view}{suffix}",
                f"sequential read of {view}/, {name}",
                "B/s",
                [name],
                partial(reading.sequential_reading_as, view, kind, name),
                [Peer("raw/ of the same mount", _at_least(0.8))],
            )
    for method, bound in ("deflate", 1.5), ("zstd", 1.2):
        yield Row(
            f"read-{method}",
            f"sequential read of raw/, {method} chain",
            "B/s",
            [method],
            partial(reading.sequential_reading, method),
            _servers(_at_least(bound)),
            room=sizes.data,
        )
    yield Row(
        "read-nbd",
        "sequential read of raw/, shallow",
        "B/s",
        ["shallow"],
        partial(reading.sequential_reading_nbd, "shallow"),
        [Peer("nbdcopy from qemu-nbd")],
    )
    yield Row(
        "read-nbdkit",
        "sequential read of raw/, shallow",
        "B/s",
        ["shallow"],
        partial(reading.sequential_reading_nbdkit, "shallow"),
        [Peer("nbdcopy from nbdkit, disk flattened before")],
        room=sizes.data,
    )


def _random(sizes: Sizes) -> Iterator[Row]:
    kinds = (4 * KIB, 1, 2.0), (4 * KIB, 4, 2.5), (64 * KIB, 4, 2.5)
    for block, readers, bound in kinds:
        for suffix, name in _CHAINS.items():
            yield Row(
                f"random-{_blocks_and_readers(block, readers)}{suffix}",
                f"random {block // KIB} KiB of raw/, {_readers(readers)}, {name}",
                "reads/s",
                [name],
                partial(reading.random_reading, block, readers, name),
                _servers(_at_least(bound), _at_least(0.8)),
                room=sizes.data,
            )
    for block, readers, _ in kinds:
        yield Row(
            f"loop-{_blocks_and_readers(block, readers)}",
            f"random {block // KIB} KiB in an ext4 in a loop device of raw/, {_readers(readers)}",
            "reads/s",
            ["guest"],
            partial(reading.random_reading_inside, block, readers, "guest"),
            _servers(_at_least(2)),
            room=sizes.data,
        )


def _blocks_and_readers(block: int, readers: int) -> str:
    return f"{block // KIB}k-{readers}"


def _readers(count: int) -> str:
    return f"{count} reader{'s' * (count > 1)}"


def _daemon(sizes: Sizes) -> Iterator[Row]:
    yield Row(
        "cpu-read",
        "processor time of the daemon, sequential read of raw/, shallow",
        "s/GiB",
        ["shallow"],
        partial(reading.daemon_time, "shallow"),
        _servers(_at_most(_CPU_IN_PYTHON / 2)),
        room=sizes.data,
    )
    yield Row(
        "cpu-idle",
        "processor time of the daemon, idle",
        "%",
        ["shallow"],
        partial(small.idle, "shallow"),
        target=_at_most(0.1),
    )


def _copying(sizes: Sizes) -> Iterator[Row]:
    room = 3 * sizes.data
    finished, convert = [Peer("cp of the finished file", _at_most(1.5))], [Peer(_CONVERT, _at_most(0.9))]
    cat = [Peer("cat of the finished file into a pipe", _at_most(1.2))]
    limit = Peer("cp from the limit, flat", _at_most(1.15))
    ext4, xfs = [Peer(_CONVERT, _at_most(0.5))], [Peer(_CONVERT, _at_most(0.05))]
    kinds = (
        ("cp", "cp of full/", finished, copying.cp_against_cp),
        ("cp-convert", "cp of full/", [*convert, limit], copying.cp_against_convert),
        ("export-ext4", "vdifs export, ext4", ext4, copying.export_against_convert),
        ("export-xfs", "vdifs export, XFS with reflinks", xfs, copying.reflinked_export),
        ("export-pipe", "vdifs export into a pipe", cat, copying.piped_export),
    )
    for key, what, peers, prepare in kinds:
        for suffix, name in _CHAINS.items():
            yield Row(
                key + suffix,
                f"{what}, {name}",
                "s",
                [] if key == "export-xfs" else [name],
                partial(prepare, name),
                peers,
                room=room * 2 if key == "export-xfs" else room,
            )
    large = f"size-{sizes.growing[-1]}"
    yield Row(
        "export-xfs-large",
        f"vdifs export, XFS with reflinks, {_amount(sizes.growing[-1])}",
        "s",
        [],
        partial(copying.reflinked_export, large),
        xfs,
        room=sizes.growing[-1] * 9 // 4,
    )


def _sparse(sizes: Sizes) -> Iterator[Row]:
    what = f"raw/ of {_amount(sizes.sparse)} with {_amount(sizes.sparse_data)} of data"
    for key, tool in ("cp", sparse.CP), ("tar", sparse.TAR), ("convert", sparse.CONVERT):
        yield Row(
            f"sparse-{key}",
            f"{tool.shown}, {what}",
            "s",
            ["holes"],
            partial(sparse.copying_sparse, tool, "holes"),
            [Peer("the same of an equal sparse file", _at_most(2))],
            room=4 * sizes.sparse_data,
        )


def _compressed(sizes: Sizes) -> Iterator[Row]:
    for method, bound in ("deflate", 0.6), ("zstd", 1.0):
        yield Row(
            f"export-{method}",
            f"vdifs export of a {method} chain, expanded",
            "s",
            [method],
            partial(copying.compressed_export, method),
            [Peer(f"{_CONVERT} -m 2", _at_most(bound))],
            room=2 * sizes.data,
        )
    peers = [Peer("--packed expand", _at_most(0.35)), Peer(f"{_CONVERT} -c -m 16 -W", _at_most(0.1))]
    for method in "deflate", "zstd":
        for key, what, prepare in (
            ("cp", "cp of full/", copying.packed_cp),
            ("export", "vdifs export", copying.packed_export),
        ):
            yield Row(
                f"packed-{key}-{method}",
                f"{what}, packed clusters of a {method} chain kept",
                "s",
                [method],
                partial(prepare, method),
                peers,
                room=2 * sizes.data,
            )


def _packing(sizes: Sizes) -> Iterator[Row]:
    judged: list[tuple[str, Unit, float]] = [("", "s", 0.5), ("-size", "B", 1.05)]
    for method in "deflate", "zstd":
        for suffix, unit, bound in judged:
            yield Row(
                f"pack-{method}{suffix}",
                f"vdifs export --compress {method}{', the length of the file' if suffix else ''}",
                unit,
                ["system"],
                partial(packing.packed_export, method, unit, "system"),
                [Peer(f"{_CONVERT} -c -m 16 -W", _at_most(bound))],
                room=2 * sizes.data,
            )


def _measuring() -> Iterator[Row]:
    bounds = ("preallocated", 0.5), ("scattered", 0.5), ("scattered-16k", 0.5), ("sparse", None), ("mixed", 2)
    for name, bound in bounds:
        yield Row(
            f"measure-{name}",
            f"vdifs measure less interpreter start, {name}",
            "s",
            [name],
            partial(small.measuring, name),
            [Peer("qemu-img map", None if bound is None else _at_most(bound))],
        )
        yield Row(
            f"measure-{name}-loaded",
            f"vdifs measure less the start of vdifs, {name}",
            "s",
            [name],
            partial(small.measuring_loaded, name),
            [Peer("qemu-img map")],
        )


def _growing(sizes: Sizes) -> Iterator[Row]:
    size = (f"size-{sizes.growing[0]}", f"size-{sizes.growing[-1]}")
    depth = (f"depth-{sizes.depths[0]}", f"depth-{sizes.depths[-1]}")
    by_size = (_amount(sizes.growing[-1]), _amount(sizes.growing[0]), 1.2)
    by_depth = (f"depth {sizes.depths[-1]}", f"depth {sizes.depths[0]}", 1.5)
    for key, names, (great, little, bound) in ("size", size, by_size), ("depth", depth, by_depth):
        itself = [Peer(f"itself, {little}", _at_most(bound))]
        yield Row(
            f"read-{key}", f"read of raw/, {great}", "s/GiB", names, partial(growing.growing_reads, *names), itself
        )
        yield Row(
            f"export-{key}",
            f"vdifs export into a pipe, {great}",
            "s/GiB",
            names,
            partial(growing.growing_export, *names),
            itself,
        )


def _amount(size: int) -> str:
    return f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB"


def _crowd(sizes: Sizes) -> Iterator[Row]:
    images = f"{sizes.images:,} images"
    yield Row("many-mount", f"{images}: mount answers", "s", ["many"], small.mounting, target=_at_most(3))
    for options, bound in ((), 2), (("-l",), 15):
        command = " ".join(["ls", *options])
        yield Row(
            f"many-{command.replace(' ', '')}",
            f"{images}: {command} full/",
            "s",
            ["many"],
            partial(small.listing, options),
            target=_at_most(bound),
        )
