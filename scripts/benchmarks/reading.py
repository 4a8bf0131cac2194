"""Contests in reading the guest disk: sequentially and at random, through the mount and through other servers."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Bench, Contest, Run, Sample, SkippedError
from benchmarks.finished import finished_disk, finished_full
from benchmarks.limit import LARGE_READS, best_threads
from benchmarks.loop import loop_mounted, needs_loop
from benchmarks.processes import FailedError, timed
from benchmarks.through import (
    FULL,
    RAW,
    Work,
    daemon_per_gib,
    inside,
    prove_raw,
    random_reads,
    read_rate,
    same_as,
    same_disk,
    through_flat,
    through_qemu,
    through_vdifs,
)

__all__ = [
    "daemon_time",
    "random_reading",
    "random_reading_inside",
    "sequential_reading",
    "sequential_reading_as",
    "sequential_reading_full",
    "sequential_reading_nbd",
    "sequential_reading_nbdkit",
]


def sequential_reading(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk through each server."""
    chain = bench.chains[name]
    return _of_three(bench, chain, finished_disk(bench, chain, stack), read_rate)


def sequential_reading_full(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole full image; qemu-storage-daemon, which has none, shows the guest disk of the same chain."""
    chain = bench.chains[name]
    return _of_three(bench, chain, finished_full(bench, chain, stack), read_rate, FULL)


def sequential_reading_as(view: str, kind: str, name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the disk in another format, which QEMU calls `kind`; and as raw contents, through the same mount."""
    chain = bench.chains[name]
    path, options = f"{view}/x.qcow2.{view}", ("--views", f"raw,{view}")
    ours, raw = (through_vdifs(bench, chain, read_rate, each, options) for each in (path, RAW))

    def prove() -> None:
        through_vdifs(bench, chain, same_disk(chain, kind), path, options)()

    return Contest(ours, [raw], prove, chain.files, bench.outputs)


def daemon_time(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk through each server; the processor time of the server alone."""
    chain = bench.chains[name]
    finished = finished_disk(bench, chain, stack)
    size = finished.stat().st_size
    return _of_three(bench, chain, finished, read_rate, taken=lambda run: daemon_per_gib(run, size))


def random_reading(block: int, readers: int, name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read blocks at random places of the guest disk through each server."""
    chain = bench.chains[name]
    work = random_reads(bench, block, readers)
    return _of_three(bench, chain, finished_disk(bench, chain, stack), work, threads=best_threads(block))


def random_reading_inside(block: int, readers: int, name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read blocks at random places of a file in the guest's file system, which is mounted out of each server's disk."""
    needs_loop()
    chain = bench.chains[name]
    finished = finished_disk(bench, chain, stack)
    try:
        with loop_mounted(finished, bench.folder / "guest"):
            pass
    except FailedError as error:
        raise SkippedError(f"no loop device could be mounted: {error}") from error
    work = inside(bench, random_reads(bench, block, readers))
    return _of_three(bench, chain, finished, work, threads=best_threads(block))


def _of_three(
    bench: Bench,
    chain: Chain,
    finished: Path,
    work: Work,
    path: str = RAW,
    *,
    threads: int = LARGE_READS,
    taken: Callable[[Run], Run] = lambda run: run,
) -> Contest:
    """Return a contest of vdifs, qemu-storage-daemon and the limit, which shows `finished`: what `path` must hold.

    threads: of the limit
    taken: makes of a run the one that gives the row's value
    """
    ours = through_vdifs(bench, chain, work, path)
    peers = through_qemu(bench, chain, work), through_flat(bench, finished, work, threads=threads)

    def prove() -> None:
        through_vdifs(bench, chain, same_as(finished), path)()
        for run in (
            through_qemu(bench, chain, same_disk(chain)),
            through_flat(bench, finished, same_as(finished), threads=threads),
        ):
            if not isinstance(run, SkippedError):
                run()

    return Contest(
        taken(ours),
        [peer if isinstance(peer, SkippedError) else taken(peer) for peer in peers],
        prove,
        [*chain.files, finished],
        bench.outputs,
    )


def sequential_reading_nbd(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk: through the mount, and with nbdcopy from qemu-nbd."""
    chain = bench.chains[name]
    server = ("qemu-nbd", "--read-only", "--format=qcow2", chain.top)
    return _against_nbd(bench, chain, _nbdcopy(chain, *server))


def sequential_reading_nbdkit(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk: through the mount, and with nbdcopy from an nbdkit that serves the flattened disk."""
    chain = bench.chains[name]
    finished = finished_disk(bench, chain, stack)
    server = ("nbdkit", "--exit-with-parent", "--readonly", "--foreground", "file", finished)
    return _against_nbd(bench, chain, _nbdcopy(chain, *server), finished)


def _nbdcopy(chain: Chain, *server: str | Path) -> Run:
    def once() -> Sample:
        cost = timed("nbdcopy", "--", "[", *server, "]", "null:")
        return Sample(chain.data / cost.seconds, cost.cpu)

    return once


def _against_nbd(bench: Bench, chain: Chain, peer: Run, *more: Path) -> Contest:
    ours = through_vdifs(bench, chain, read_rate)
    return Contest(ours, [peer], lambda: prove_raw(bench, chain), [*chain.files, *more], bench.outputs)
