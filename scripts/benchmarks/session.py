"""A run of the bench from the empty work folder to the empty work folder."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.chains import Chains
from benchmarks.contest import Bench, Outcome, Row, SkippedError, measured
from benchmarks.loop import loop_filesystem
from benchmarks.processes import FailedError, output_of
from benchmarks.sizes import GIB, Sizes

__all__ = ["measure_all", "opened", "room_for", "room_for_plot"]

_SPARE = GIB // 2
_NO_DISK = ("tmpfs", "ramfs", "overlay")


@contextmanager
def opened(workdir: Path | None, sizes: Sizes, room: int, say: Callable[[str], None]) -> Iterator[Bench]:
    """Give a bench in a new folder of `workdir`, on ext4 if that can be had; nothing of it is left afterwards.

    Raises FailedError where there is no disk, or not `room` bytes of it.
    """
    parent = (workdir or Path(os.environ.get("TMPDIR", "/var/tmp"))).resolve()
    filesystem = filesystem_of(parent)
    if filesystem in _NO_DISK:
        raise FailedError(f"{parent}: is {filesystem}, no file system on a disk: name another folder with --workdir")
    free = shutil.disk_usage(parent).free
    if free < room:
        raise FailedError(f"{parent}: {_gib(room)} are needed, {_gib(free)} are free: name another with --workdir")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="vdifs-bench-", dir=parent))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if filesystem != "ext4":
            try:
                folder = loop_filesystem(folder / "ext4", room, ("mkfs.ext4", "-q"), stack)
            except SkippedError as reason:
                say(f"measuring on {filesystem} instead of ext4: {reason}")
        yield Bench(folder, Chains(folder / "chains", sizes), sizes)


def filesystem_of(path: Path) -> str:
    """Return the type of the file system that holds `path`."""
    return output_of("findmnt", "-no", "FSTYPE", "-T", path).decode().strip()


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def room_for(rows: Sequence[Row], chains: Chains) -> int:
    """Return the bytes of disk the rows take at most, chains being dropped as `measure_all` drops them."""
    most, held = 0, set[str]()
    for number, row in enumerate(rows):
        held.update(row.chains)
        most = max(most, sum(map(chains.room, held)) + row.room)
        held -= _no_longer_needed(rows, number)
    return most + _SPARE


def room_for_plot(sizes: Sizes, chains: Chains) -> int:
    """Return the bytes of disk the curves take at most, once the rows are done."""
    names = ["shallow", *(f"size-{size}" for size in sizes.growing), *(f"depth-{depth}" for depth in sizes.depths)]
    return max(map(chains.room, names)) + _SPARE


def _no_longer_needed(rows: Sequence[Row], number: int) -> set[str]:
    """Return the chains of a row that no later row needs."""
    later = {name for row in rows[number + 1 :] for name in row.chains}
    return set(rows[number].chains) - later


def measure_all(rows: Sequence[Row], bench: Bench, rounds: int) -> Iterator[Outcome]:
    """Measure one row after the other. Chains are kept only as long as a later row needs them."""
    for number, row in enumerate(rows):
        yield measured(row, bench, rounds)
        for name in _no_longer_needed(rows, number):
            bench.chains.drop(name)
