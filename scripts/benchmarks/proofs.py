"""What several contests use: a command as a run, and the proofs that bytes are the right ones."""

from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Sample
from benchmarks.processes import run, timed

__all__ = ["piped", "prove_copy", "prove_disk", "seconds"]


def seconds(*command: str | Path) -> Sample:
    """Run a command; the time it takes."""
    cost = timed(*command)
    return Sample(cost.seconds, cost.cpu)


def piped(*command: str | Path) -> tuple[str | Path, ...]:
    """Return a command that runs `command` with a pipe as its output."""
    return ("bash", "-c", 'set -o pipefail; "$@" | cat >/dev/null', "bash", *command)


def prove_copy(copy: Path, chain: Chain) -> None:
    """Raise FailedError unless `copy` is a sound qcow2 that holds what the chain holds."""
    run("qemu-img", "check", "-q", "-f", "qcow2", copy)
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", copy, chain.top)


def prove_disk(disk: Path, chain: Chain, kind: str = "raw") -> None:
    """Raise FailedError unless `disk`, an image in the format `kind`, holds what QEMU reads from the chain."""
    run("qemu-img", "compare", "-q", "-f", kind, "-F", "qcow2", disk, chain.top)
