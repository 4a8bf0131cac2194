"""Contests in what should take no time: measuring, mounting and listing a crowded folder, starting, being idle."""

import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Bench, Contest, Sample
from benchmarks.processes import FailedError, output_of, run, timed
from benchmarks.proofs import prove_copy, seconds
from benchmarks.servers import VDIFS, vdifs_mount
from benchmarks.through import through_vdifs

__all__ = ["idle", "listing", "measuring", "measuring_loaded", "mounting", "start"]

_TO_COME_TO_REST_S = 2.0
"""A daemon that has just been started opens every image once."""


def measuring(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Measure the full image, less the interpreter's start, and map it with qemu-img."""
    return _measured(name, bench, sys.executable, "-I", "-c", "pass")


def measuring_loaded(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """The same, less the start of vdifs: what measuring an empty image takes."""
    empty = bench.outputs.with_name("empty.qcow2")
    stack.callback(empty.unlink, missing_ok=True)
    run("qemu-img", "create", "-q", "-f", "qcow2", empty, "1M")
    return _measured(name, bench, VDIFS, "measure", empty)


def _measured(name: str, bench: Bench, *starting: str | Path) -> Contest:
    chain = bench.chains[name]

    def ours() -> Sample:
        start, cost = timed(*starting), timed(VDIFS, "measure", chain.top)
        return Sample(cost.seconds - start.seconds, cost.cpu - start.cpu)

    def prove() -> None:
        target = bench.outputs / "export.qcow2"
        run(VDIFS, "export", chain.top, target)
        prove_copy(target, chain)
        said = json.loads(output_of(VDIFS, "measure", "--output=json", chain.top))["required"]
        if said != target.stat().st_size:
            raise FailedError(f"vdifs measure says {said} bytes, the export has {target.stat().st_size}")

    return Contest(
        ours, [lambda: seconds("qemu-img", "map", "--output=json", chain.top)], prove, chain.files, bench.outputs
    )


def mounting(bench: Bench, stack: ExitStack) -> Contest:
    """Mount a folder of very many images, until the mount answers."""
    chain, mountpoint = _crowd(bench)

    def ours() -> Sample:
        try:
            return seconds(VDIFS, "mount", chain.folder, mountpoint)
        finally:
            with suppress(FailedError):
                run(VDIFS, "umount", mountpoint)

    return Contest(ours, (), lambda: None, (), bench.outputs)


def listing(options: tuple[str, ...], bench: Bench, stack: ExitStack) -> Contest:
    """List a folder of very many images."""
    chain, mountpoint = _crowd(bench)

    def prove() -> None:
        with vdifs_mount(chain.folder, mountpoint):
            sizes = [entry.stat().st_size for entry in os.scandir(mountpoint / "full")]
        if len(sizes) != bench.sizes.images or min(sizes) < chain.data // len(sizes):
            raise FailedError(f"{len(sizes)} images are listed, the smallest with {min(sizes, default=0)} bytes")

    def listed(folder: Path) -> Sample:
        return seconds("ls", *options, folder)

    return Contest(through_vdifs(bench, chain, listed, "full"), (), prove, (), bench.outputs)


def _crowd(bench: Bench) -> tuple[Chain, Path]:
    chain = bench.chains["many"]
    chain.warm()
    mountpoint = bench.folder / "mnt"
    mountpoint.mkdir(exist_ok=True)
    return chain, mountpoint


def start(arguments: tuple[str, ...], bench: Bench, stack: ExitStack) -> Contest:
    """Run a command that does next to nothing; its processor time."""
    chain = bench.chains["shallow"]

    def ours() -> Sample:
        cost = timed(VDIFS, *(str(chain.top) if word == "X" else word for word in arguments))
        return Sample(cost.cpu, cost.cpu)

    return Contest(ours, (), lambda: None, chain.files, bench.outputs)


def idle(name: str, bench: Bench, stack: ExitStack) -> Contest:
    """Leave a mount alone; the processor time that its daemon takes, in percent of one processor."""
    chain, mountpoint = bench.chains[name], bench.folder / "mnt"

    def ours() -> Sample:
        with vdifs_mount(chain.folder, mountpoint) as server:
            time.sleep(min(bench.sizes.idle, _TO_COME_TO_REST_S))
            before, began = server.cpu(), time.monotonic()
            time.sleep(bench.sizes.idle)
            used = server.cpu() - before
            return Sample(100 * used / (time.monotonic() - began), used, server.growth(), used)

    return Contest(ours, (), lambda: None, chain.files, bench.outputs)
