"""Contests in reading the guest disk: sequentially and at random, through the mount and through other servers."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Bench, Contest, Run, Sample
from benchmarks.processes import run, timed
from benchmarks.through import prove_raw, random_reads, read_rate, through_qemu, through_vdifs

__all__ = ["random_reading", "sequential_reading", "sequential_reading_nbd", "sequential_reading_nbdkit"]


def sequential_reading(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk through each server."""
    return _served(bench, bench.chains[name], through_qemu(bench, bench.chains[name], read_rate))


def sequential_reading_nbd(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk: through the mount, and with nbdcopy from qemu-nbd."""
    chain = bench.chains[name]
    server = ("qemu-nbd", "--read-only", "--format=qcow2", chain.top)
    return _served(bench, chain, _nbdcopy(chain, *server))


def sequential_reading_nbdkit(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read the whole guest disk: through the mount, and with nbdcopy from an nbdkit that serves the flattened disk."""
    chain = bench.chains[name]
    flat = bench.folder / "flat.raw"
    stack.callback(flat.unlink, missing_ok=True)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", chain.top, flat)
    server = ("nbdkit", "--exit-with-parent", "--readonly", "--foreground", "file", flat)
    return _served(bench, chain, _nbdcopy(chain, *server), flat)


def _nbdcopy(chain: Chain, *server: str | Path) -> Run:
    def once() -> Sample:
        cost = timed("nbdcopy", "--", "[", *server, "]", "null:")
        return Sample(chain.data / cost.seconds, cost.cpu)

    return once


def _served(bench: Bench, chain: Chain, peer: Run, *more: Path) -> Contest:
    ours = through_vdifs(bench, chain, read_rate)
    return Contest(ours, peer, lambda: prove_raw(bench, chain), [*chain.files, *more], bench.outputs)


def random_reading(block: int, readers: int, name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Read blocks at random places of the guest disk through each server."""
    chain = bench.chains[name]
    work = random_reads(bench, block, readers)
    return Contest(
        through_vdifs(bench, chain, work),
        through_qemu(bench, chain, work),
        lambda: prove_raw(bench, chain),
        chain.files,
        bench.outputs,
    )
