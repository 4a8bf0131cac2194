"""The contents of a chain as one ordinary file, made before the runs: what copying and the limit are held against."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Bench
from benchmarks.processes import run
from benchmarks.proofs import prove_copy, prove_disk
from benchmarks.servers import VDIFS

__all__ = ["finished_disk", "finished_full"]


def finished_full(bench: Bench, chain: Chain, stack: ExitStack) -> Path:
    """Return the full image, proved; the stack deletes it."""
    finished = bench.folder / "finished.qcow2"
    stack.callback(finished.unlink, missing_ok=True)
    run(VDIFS, "export", "--force", chain.top, finished)
    prove_copy(finished, chain)
    return finished


def finished_disk(bench: Bench, chain: Chain, stack: ExitStack) -> Path:
    """Return the guest disk as QEMU flattens it, sparse and proved; the stack deletes it."""
    finished = bench.folder / "finished.raw"
    stack.callback(finished.unlink, missing_ok=True)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", chain.top, finished)
    prove_disk(finished, chain)
    return finished
