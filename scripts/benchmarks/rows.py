"""Every row of the table: what is compared with what, and what is wanted."""

from collections.abc import Iterator
from functools import partial

from benchmarks import copying, growing, reading, small
from benchmarks.contest import Row, Target
from benchmarks.sizes import GIB, KIB, MIB, Sizes

__all__ = ["MEMORY", "all_rows"]

_CHAINS = {"": "shallow", "-scattered": "scattered"}
_STORAGE_DAEMON = "qemu-storage-daemon FUSE export"
_CONVERT = "qemu-img convert"

MEMORY = Target("<=", 64 * MIB)
"""By how much a daemon's memory may grow over its idle state, whatever was asked of it."""


def all_rows(sizes: Sizes) -> Iterator[Row]:
    """Yield the rows in the table's order."""
    yield from _reading(sizes)
    yield from _copying(sizes)
    yield from _compressed(sizes)
    yield from _measuring()
    yield from _growing(sizes)
    yield from _crowd(sizes)
    for arguments, bound in (("--version",), 0.10), (("info", "X"), 0.25):
        yield Row(
            f"start-{arguments[0].strip('-')}",
            f"vdifs {' '.join(arguments)}, processor time",
            "",
            "s",
            Target("<=", bound),
            ["shallow"],
            partial(small.start, arguments),
        )


def _reading(sizes: Sizes) -> Iterator[Row]:
    for suffix, name in _CHAINS.items():
        yield Row(
            f"read{suffix}",
            f"sequential read of raw/, {name}",
            _STORAGE_DAEMON,
            "B/s",
            Target(">=", 4),
            [name],
            partial(reading.sequential_reading, name),
        )
    yield Row(
        "read-nbd",
        "sequential read of raw/, shallow",
        "nbdcopy from qemu-nbd",
        "B/s",
        None,
        ["shallow"],
        partial(reading.sequential_reading_nbd, "shallow"),
    )
    yield Row(
        "read-nbdkit",
        "sequential read of raw/, shallow",
        "nbdcopy from nbdkit, disk flattened before",
        "B/s",
        None,
        ["shallow"],
        partial(reading.sequential_reading_nbdkit, "shallow"),
        room=sizes.data,
    )
    for block, readers, bound in (4 * KIB, 1, 1.2), (4 * KIB, 4, 1.2), (64 * KIB, 4, 1.5):
        for suffix, name in _CHAINS.items():
            yield Row(
                f"random-{block // KIB}k-{readers}{suffix}",
                f"random {block // KIB} KiB of raw/, {readers} reader{'s' * (readers > 1)}, {name}",
                _STORAGE_DAEMON,
                "reads/s",
                Target(">=", bound),
                [name],
                partial(reading.random_reading, block, readers, name),
            )


def _copying(sizes: Sizes) -> Iterator[Row]:
    room = 2 * sizes.data
    kinds = (
        ("cp", "cp of full/", "cp of the finished file", 1.5, copying.cp_against_cp),
        ("cp-convert", "cp of full/", _CONVERT, 0.6, copying.cp_against_convert),
        ("export-ext4", "vdifs export, ext4", _CONVERT, 0.5, copying.export_against_convert),
        ("export-xfs", "vdifs export, XFS with reflinks", _CONVERT, 0.05, copying.reflinked_export),
        ("export-pipe", "vdifs export into a pipe", "cat of the finished file into a pipe", 1.2, copying.piped_export),
    )
    for key, what, against, bound, prepare in kinds:
        for suffix, name in _CHAINS.items():
            yield Row(
                key + suffix,
                f"{what}, {name}",
                against,
                "s",
                Target("<=", bound),
                [] if key == "export-xfs" else [name],
                partial(prepare, name),
                room=room * 3 if key == "export-xfs" else room,
            )
    large = f"size-{sizes.growing[-1]}"
    yield Row(
        "export-xfs-large",
        f"vdifs export, XFS with reflinks, {_amount(sizes.growing[-1])}",
        _CONVERT,
        "s",
        Target("<=", 0.05),
        [],
        partial(copying.reflinked_export, large),
        room=sizes.growing[-1] * 9 // 4,
    )


def _compressed(sizes: Sizes) -> Iterator[Row]:
    for method, bound in ("deflate", 0.6), ("zstd", 1.0):
        yield Row(
            f"export-{method}",
            f"vdifs export of a {method} chain",
            f"{_CONVERT} -m 2",
            "s",
            Target("<=", bound),
            [method],
            partial(copying.compressed_export, method),
            room=2 * sizes.data,
        )


def _measuring() -> Iterator[Row]:
    bounds = ("preallocated", 0.5), ("scattered", 0.5), ("scattered-16k", 0.5), ("sparse", None), ("mixed", 2)
    for name, bound in bounds:
        yield Row(
            f"measure-{name}",
            f"vdifs measure less interpreter start, {name}",
            "qemu-img map",
            "s",
            None if bound is None else Target("<=", bound),
            [name],
            partial(small.measuring, name),
        )
        yield Row(
            f"measure-{name}-loaded",
            f"vdifs measure less the start of vdifs, {name}",
            "qemu-img map",
            "s",
            None,
            [name],
            partial(small.measuring_loaded, name),
        )


def _growing(sizes: Sizes) -> Iterator[Row]:
    size = (f"size-{sizes.growing[0]}", f"size-{sizes.growing[-1]}")
    depth = (f"depth-{sizes.depths[0]}", f"depth-{sizes.depths[-1]}")
    by_size = (_amount(sizes.growing[-1]), _amount(sizes.growing[0]), 1.2)
    by_depth = (f"depth {sizes.depths[-1]}", f"depth {sizes.depths[0]}", 1.5)
    for key, names, (great, little, bound) in ("size", size, by_size), ("depth", depth, by_depth):
        yield Row(
            f"read-{key}",
            f"read of raw/, {great}",
            f"itself, {little}",
            "s/GiB",
            Target("<=", bound),
            names,
            partial(growing.growing_reads, *names),
        )
        yield Row(
            f"export-{key}",
            f"vdifs export into a pipe, {great}",
            f"itself, {little}",
            "s/GiB",
            Target("<=", bound),
            names,
            partial(growing.growing_export, *names),
        )


def _amount(size: int) -> str:
    return f"{size // GIB} GiB" if size >= GIB else f"{size // MIB} MiB"


def _crowd(sizes: Sizes) -> Iterator[Row]:
    yield Row(
        "many-mount", f"{sizes.images:,} images: mount answers", "", "s", Target("<=", 3), ["many"], small.mounting
    )
    for options, bound in ((), 2), (("-l",), 15):
        command = " ".join(["ls", *options])
        yield Row(
            f"many-{command.replace(' ', '')}",
            f"{sizes.images:,} images: {command} full/",
            "",
            "s",
            Target("<=", bound),
            ["many"],
            partial(small.listing, options),
        )
