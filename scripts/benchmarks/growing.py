"""Contests of vdifs with itself: does the cost per GiB grow with the size of the disk or the length of the chain?"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Bench, Contest, Run, Sample, SkippedError
from benchmarks.processes import timed
from benchmarks.proofs import piped
from benchmarks.servers import VDIFS
from benchmarks.sizes import GIB, KIB
from benchmarks.through import prove_raw, read_per_gib, through_vdifs

__all__ = ["growing_export", "growing_reads"]


def growing_reads(small: str, large: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read a large disk through the mount, and a small one, per GiB; the same for a long chain and a short one."""

    def side(name: str) -> Run:
        return _warmed(bench, name, lambda chain: through_vdifs(bench, chain, read_per_gib)())

    return Contest(side(large), [side(small)], lambda: prove_raw(bench, bench.chains[small]), (), bench.outputs)


def growing_export(small: str, large: str, bench: Bench, stack: ExitStack) -> Contest:
    """Export a large disk into a pipe, and a small one, per GiB; the same for a long chain and a short one."""

    def exported(chain: Chain) -> Sample:
        cost = timed(*piped(VDIFS, "export", chain.top, "-"))
        return Sample(cost.seconds * GIB / chain.data, cost.cpu)

    def side(name: str) -> Run:
        return _warmed(bench, name, exported)

    return Contest(side(large), [side(small)], lambda: None, (), bench.outputs)


def _warmed(bench: Bench, name: str, once: Callable[[Chain], Sample]) -> Run:
    """Return a run that first reads its own chain alone: both together may not fit into memory."""
    if bench.chains.room(name) > (free := _memory_available()) // 8 * 7:
        raise SkippedError(f"{bench.chains.room(name) >> 20} MiB of sources do not fit into {free >> 20} MiB of memory")

    def run_once() -> Sample:
        chain = bench.chains[name]
        chain.warm()
        return once(chain)

    return run_once


def _memory_available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * KIB
