"""Contests in copying a raw disk that is mostly holes: out of the mount, and an equal sparse file on the same disk."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Bench, Contest, Sample
from benchmarks.finished import finished_disk
from benchmarks.processes import run
from benchmarks.proofs import prove_disk, seconds
from benchmarks.through import through_vdifs

__all__ = ["CONVERT", "CP", "TAR", "Tool", "copying_sparse"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that passes over holes.

    command: what copies its first argument to its second
    unpack: has the copied disk from there at its second argument
    """

    shown: str
    command: Callable[[Path, Path], tuple[str | Path, ...]]
    unpack: Callable[[Path, Path], tuple[str | Path, ...]]


CP = Tool("cp", lambda disk, copy: ("cp", disk, copy), lambda copy, disk: ("mv", copy, disk))
TAR = Tool(
    "tar -S",
    lambda disk, copy: ("tar", "-C", disk.parent, "-Scf", copy, disk.name),
    lambda copy, disk: ("tar", "-C", disk.parent, "-Sxf", copy, "--transform", f"s,.*,{disk.name},"),
)
CONVERT = Tool(
    "qemu-img convert -f raw",
    lambda disk, copy: ("qemu-img", "convert", "-f", "raw", "-O", "raw", disk, copy),
    lambda copy, disk: ("mv", copy, disk),
)


def copying_sparse(tool: Tool, name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Copy the raw disk of a chain out of the mount, and a file that holds the same and has the same holes."""
    chain = bench.chains[name]
    equal = finished_disk(bench, chain, stack)
    target = bench.outputs / "copy"

    def copied(path: Path) -> Sample:
        return seconds(*tool.command(path, target))

    ours = through_vdifs(bench, chain, copied)

    def prove() -> None:
        for once in ours, lambda: copied(equal):
            once()
            run(*tool.unpack(target, bench.outputs / "disk"))
            prove_disk(bench.outputs / "disk", chain)
            (bench.outputs / "disk").unlink()
            target.unlink(missing_ok=True)

    return Contest(ours, [lambda: copied(equal)], prove, [*chain.files, equal], bench.outputs)
