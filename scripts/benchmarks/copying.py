"""Contests in making a full copy: with cp out of the mount, and with `vdifs export`."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.chains import Chain, Chains
from benchmarks.contest import Bench, Contest, Run, Sample, SkippedError
from benchmarks.finished import finished_full
from benchmarks.limit import LARGE_READS
from benchmarks.loop import loop_filesystem
from benchmarks.processes import run
from benchmarks.proofs import piped, prove_copy, seconds
from benchmarks.servers import VDIFS
from benchmarks.sizes import GIB
from benchmarks.through import FULL, copied_to, same_as, through_flat, through_vdifs

__all__ = [
    "compressed_export",
    "cp_against_convert",
    "cp_against_cp",
    "export_against_convert",
    "packed_cp",
    "packed_export",
    "piped_export",
    "reflinked_export",
]


_EXPAND = ("--packed", "expand")


def cp_against_cp(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Copy the full image out of the mount, and a finished file of the same bytes."""
    chain = bench.chains[name]
    finished = finished_full(bench, chain, stack)
    copy = copied_to(bench.outputs / "copy.qcow2")
    ours, prove = _out_of_mount(bench, chain)
    return Contest(ours, [lambda: copy(finished)], prove, [*chain.files, finished], bench.outputs)


def cp_against_convert(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Copy the full image out of the mount, have qemu-img flatten the chain, and copy the same bytes from the limit."""
    chain = bench.chains[name]
    finished = finished_full(bench, chain, stack)
    ours, prove_ours = _out_of_mount(bench, chain)
    limit = through_flat(bench, finished, copied_to(bench.outputs / "copy.qcow2"), threads=LARGE_READS)

    def prove() -> None:
        prove_ours()
        shown = through_flat(bench, finished, same_as(finished), threads=LARGE_READS)
        if not isinstance(shown, SkippedError):
            shown()

    peers = [_convert(chain, bench.outputs), limit]
    return Contest(ours, peers, prove, [*chain.files, finished], bench.outputs)


def packed_cp(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Copy the full image out of the mount as it is packed, and with all clusters expanded; qemu-img packs it anew."""
    chain = bench.chains[name]
    ours, prove = _out_of_mount(bench, chain)
    expanded = through_vdifs(bench, chain, copied_to(bench.outputs / "copy.qcow2"), FULL, _EXPAND)
    peers = [expanded, _convert(chain, bench.outputs, *_packing(name))]
    return Contest(ours, peers, prove, chain.files, bench.outputs)


def packed_export(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """The same with `vdifs export`."""
    chain, target = bench.chains[name], bench.outputs / "export.qcow2"
    contest = _exported(chain, bench.outputs, *_packing(name))

    def expanded() -> Sample:
        return seconds(VDIFS, "export", *_EXPAND, chain.top, target)

    return replace(contest, peers=[expanded, *contest.peers])


def _packing(name: str) -> tuple[str, ...]:
    """Return what has qemu-img pack clusters as a chain of that name has them."""
    return ("-c", "-m", "16", "-W", "-o", f"compression_type={name.replace('deflate', 'zlib')}")


def _out_of_mount(bench: Bench, chain: Chain) -> tuple[Run, Callable[[], None]]:
    """Return a run of cp out of the mount, and the proof of its copy."""
    target = bench.outputs / "copy.qcow2"
    ours = through_vdifs(bench, chain, copied_to(target), FULL)

    def prove() -> None:
        ours()
        prove_copy(target, chain)

    return ours, prove


def export_against_convert(name: str, bench: Bench, stack: ExitStack, *options: str) -> Contest:
    """Flatten the chain with `vdifs export` and with `qemu-img convert`, on the bench's own file system."""
    return _exported(bench.chains[name], bench.outputs, *options)


def compressed_export(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """The same of all clusters expanded, with two coroutines of qemu-img: it inflates in as many threads."""
    return _exported(bench.chains[name], bench.outputs, "-m", "2", words=_EXPAND)


def reflinked_export(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """The same, on an XFS that shares blocks; the chain is built there."""
    data = bench.chains.data(name)
    xfs = loop_filesystem(bench.folder / "xfs", 4 * data + GIB, ("mkfs.xfs", "-q", "-m", "reflink=1"), stack)
    outputs = xfs / "outputs"
    outputs.mkdir()
    return _exported(Chains(xfs / "chains", bench.sizes)[name], outputs)


def _exported(chain: Chain, outputs: Path, *options: str, words: tuple[str, ...] = ()) -> Contest:
    """Export and convert a chain. options: of qemu-img; words: of `vdifs export`."""
    target = outputs / "export.qcow2"

    def ours() -> Sample:
        return seconds(VDIFS, "export", *words, chain.top, target)

    def prove() -> None:
        ours()
        prove_copy(target, chain)

    return Contest(ours, [_convert(chain, outputs, *options)], prove, chain.files, outputs)


def piped_export(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Export into a pipe, and cat a finished file of the same bytes into one."""
    chain = bench.chains[name]
    finished = finished_full(bench, chain, stack)

    def prove() -> None:
        run("bash", "-c", 'set -o pipefail; "$1" export "$2" - | cmp - "$3"', "bash", VDIFS, chain.top, finished)

    return Contest(
        lambda: seconds(*piped(VDIFS, "export", chain.top, "-")),
        [lambda: seconds(*piped("cat", finished))],
        prove,
        [*chain.files, finished],
        bench.outputs,
    )


def _convert(chain: Chain, outputs: Path, *options: str) -> Run:
    target = outputs / "convert.qcow2"
    return lambda: seconds("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", *options, chain.top, target)
