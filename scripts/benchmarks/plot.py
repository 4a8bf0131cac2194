"""Curves of what reading costs, as an SVG: against the size of the disk, the depth of the chain, and the readers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contest import Bench, Contest, SkippedError, alternate, median
from benchmarks.processes import FailedError
from benchmarks.sizes import GIB, KIB
from benchmarks.through import Work, random_reads, read_per_gib, through_qemu, through_vdifs

__all__ = ["draw"]


@dataclass(frozen=True, slots=True)
class _Curve:
    """One picture. points: where on the x axis, and what vdifs and its peer take there."""

    title: str
    x: str
    y: str
    points: Sequence[tuple[float, float, float]]


def draw(file: Path, bench: Bench, rounds: int, say: Callable[[str], None]) -> None:
    """Measure the curves and write them to `file`."""
    curves = []
    for curve in _curves(bench, rounds):
        say(f"{curve.title}: " + "  ".join(f"{x:g}: {ours:.3g} / {peer:.3g}" for x, ours, peer in curve.points))
        curves.append(curve)
    with mpl.rc_context():
        mpl.rc("svg", fonttype="none", hashsalt="vdifs")
        mpl.rc("axes", grid=True)
        mpl.rc("grid", alpha=0.3)
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        for axes, curve in zip(figure.subplots(1, len(curves)), curves, strict=True):
            _picture(axes, curve)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _picture(axes: Axes, curve: _Curve) -> None:
    places = [x for x, _, _ in curve.points]
    axes.plot(places, [ours for _, ours, _ in curve.points], marker="o", label="vdifs")
    axes.plot(places, [peer for _, _, peer in curve.points], marker="s", label="qemu-storage-daemon")
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{x:g}" for x in places])
    axes.set_ylim(bottom=0)
    axes.set_title(curve.title, fontsize="medium")
    axes.set_xlabel(curve.x)
    axes.set_ylabel(curve.y)
    axes.legend(fontsize="small")


def _curves(bench: Bench, rounds: int) -> Iterator[_Curve]:
    sizes = bench.sizes
    by_size = [(size / GIB, f"size-{size}") for size in sizes.growing]
    yield _Curve("size of the disk", "GiB of data", "s per GiB read", list(_along(bench, rounds, by_size)))
    by_depth = [(depth, f"depth-{depth}") for depth in sizes.depths]
    yield _Curve("depth of the chain", "images", "s per GiB read", list(_along(bench, rounds, by_depth)))
    readers = [
        (float(count), *_medians(bench, rounds, "shallow", random_reads(bench, 4 * KIB, count)))
        for count in sizes.readers
    ]
    per_read = [(count, 1e6 / ours, 1e6 / peer) for count, ours, peer in readers]
    yield _Curve("readers side by side", "readers", "µs per random read of 4 KiB", per_read)


def _along(bench: Bench, rounds: int, chains: Sequence[tuple[float, str]]) -> Iterator[tuple[float, float, float]]:
    for place, name in chains:
        yield place, *_medians(bench, rounds, name, read_per_gib)
        bench.chains.drop(name)


def _medians(bench: Bench, rounds: int, name: str, work: Work) -> tuple[float, float]:
    chain = bench.chains[name]
    exported = through_qemu(bench, chain, work)
    if isinstance(exported, SkippedError):
        raise FailedError(str(exported))
    contest = Contest(through_vdifs(bench, chain, work), [exported], lambda: None, chain.files, bench.outputs)
    ours, peer = alternate(contest, rounds)
    return median(ours), median(peer)
