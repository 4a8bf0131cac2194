"""Contests in writing a packed image: with `vdifs export --compress`, and with `qemu-img convert -c`."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks.contest import Bench, Contest, Sample, Unit
from benchmarks.proofs import prove_copy, seconds
from benchmarks.servers import VDIFS

__all__ = ["packed_export"]

_QEMU = {"deflate": "zlib", "zstd": "zstd"}
_COROUTINES = ("-m", "16", "-W")
"""As many as qemu-img allows, which write in any order: it packs in four threads then."""


def packed_export(method: str, unit: Unit, name: str, bench: Bench, _stack: ExitStack) -> Contest:
    """Pack a disk with both, at the level that each takes by itself. unit: seconds, or bytes of the file."""
    chain = bench.chains[name]
    ours, theirs = bench.outputs / "export.qcow2", bench.outputs / "convert.qcow2"
    export = (VDIFS, "export", chain.top, ours, "--compress", method)
    options = ("-c", *_COROUTINES, "-o", f"compression_type={_QEMU[method]}")
    convert = ("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", *options, chain.top, theirs)

    def prove() -> None:
        seconds(*export)
        prove_copy(ours, chain)

    return Contest(
        lambda: _sample(unit, ours, *export),
        [lambda: _sample(unit, theirs, *convert)],
        prove,
        chain.files,
        bench.outputs,
    )


def _sample(unit: Unit, output: Path, *command: str | Path) -> Sample:
    took = seconds(*command)
    return took if unit == "s" else Sample(output.stat().st_size, took.cpu)
