"""Work on a served file as a run: a fresh mount each time, whose page cache is cold, and what its daemon used."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.chains import GUEST_FILE, Chain
from benchmarks.contest import Bench, Run, Sample, SkippedError
from benchmarks.limit import DISK, flat_mount, flat_program
from benchmarks.loop import loop_mounted
from benchmarks.processes import Daemon, run, timed
from benchmarks.proofs import prove_disk
from benchmarks.servers import needs_storage_daemon, storage_daemon, vdifs_mount
from benchmarks.sizes import GIB, KIB

__all__ = [
    "FULL",
    "RAW",
    "Work",
    "copied_to",
    "daemon_per_gib",
    "inside",
    "prove_raw",
    "random_reads",
    "read_per_gib",
    "read_rate",
    "same_as",
    "same_disk",
    "through_flat",
    "through_qemu",
    "through_vdifs",
]

Work = Callable[[Path], Sample]
"""Called with the served file; its sample leaves the daemon out."""

RAW = "raw/x.qcow2.raw"
FULL = "full/x.qcow2"


def through_vdifs(bench: Bench, chain: Chain, work: Work, path: str = RAW, options: tuple[str, ...] = ()) -> Run:
    """Return a run of `work` on the file `path` of a mount of the chain's folder. options: of `vdifs mount`."""
    mountpoint = bench.folder / "mnt"

    def once() -> Sample:
        with vdifs_mount(chain.folder, mountpoint, *options) as server:
            return _with_daemon(server, work, mountpoint / path)

    return once


def through_qemu(bench: Bench, chain: Chain, work: Work) -> Run | SkippedError:
    """Return a run of `work` on the chain's guest contents, served by qemu-storage-daemon, or why there can be none."""
    try:
        needs_storage_daemon()
    except SkippedError as reason:
        return reason
    mountpoint = bench.folder / "exported"

    def once() -> Sample:
        with storage_daemon(chain.top, mountpoint) as server:
            return _with_daemon(server, work, mountpoint)

    return once


def through_flat(bench: Bench, finished: Path, work: Work, *, threads: int) -> Run | SkippedError:
    """Return a run of `work` on a finished file, served by the server that is the limit, or why there can be none."""
    try:
        program = flat_program(bench.folder)
    except SkippedError as reason:
        return reason
    folder = bench.folder / "limit"

    def once() -> Sample:
        with flat_mount(program, finished, folder, threads) as server:
            return _with_daemon(server, work, folder / DISK)

    return once


def _with_daemon(server: Daemon, work: Work, path: Path) -> Sample:
    before = server.cpu()
    sample = work(path)
    used = server.cpu() - before
    return Sample(sample.value, sample.cpu + used, server.growth(), used)


def daemon_per_gib(run_once: Run, size: int) -> Run:
    """Return a run of `run_once`, which reads `size` bytes: the processor time of its daemon, in seconds per GiB."""

    def once() -> Sample:
        sample = run_once()
        return replace(sample, value=sample.daemon * GIB / size)

    return once


def prove_raw(bench: Bench, chain: Chain) -> None:
    """Raise FailedError unless the mount's raw file is what QEMU reads from the chain."""
    through_vdifs(bench, chain, same_disk(chain))()


def same_disk(chain: Chain, kind: str = "raw") -> Work:
    """Raise FailedError unless a served file, an image in the format `kind`, is what QEMU reads from the chain."""

    def work(path: Path) -> Sample:
        prove_disk(path, chain, kind)
        return Sample(0.0, 0.0)

    return work


def same_as(finished: Path) -> Work:
    """Raise FailedError unless a served file holds what `finished` holds, byte for byte."""

    def work(path: Path) -> Sample:
        run("cmp", path, finished)
        return Sample(0.0, 0.0)

    return work


def read_rate(path: Path) -> Sample:
    """Read a file from start to end, in bytes per second."""
    cost = timed("dd", f"if={path}", "of=/dev/null", "bs=1M")
    return Sample(path.stat().st_size / cost.seconds, cost.cpu)


def read_per_gib(path: Path) -> Sample:
    """Read a file from start to end, leaving none of it in the page cache, in seconds per GiB."""
    cost = timed("dd", f"if={path}", "of=/dev/null", "bs=1M", "iflag=nocache")
    return Sample(cost.seconds * GIB / path.stat().st_size, cost.cpu)


def copied_to(target: Path) -> Work:
    """Copy a file with cp, in seconds."""

    def work(path: Path) -> Sample:
        cost = timed("cp", path, target)
        return Sample(cost.seconds, cost.cpu)

    return work


def random_reads(bench: Bench, block: int, readers: int) -> Work:
    """Read blocks at random places, the same ones each time, by several readers; in reads per second."""
    report = bench.folder / "fio.json"
    each = bench.sizes.random * (16 if block > 4 * KIB else 1)

    def work(path: Path) -> Sample:
        cost = timed(
            *("fio", "--name=reads", f"--filename={_escaped(path)}", "--rw=randread", "--readonly"),
            *(f"--bs={block}", f"--numjobs={readers}", f"--io_size={each}", "--ioengine=psync", "--group_reporting"),
            *("--randrepeat=1", "--output-format=json", f"--output={report}"),
        )
        (job,) = json.loads(report.read_text())["jobs"]
        return Sample(job["read"]["iops"], cost.cpu)

    return work


def inside(bench: Bench, reads: Work) -> Work:
    """Do `reads` on the file that a guest's file system holds, which is mounted by way of a loop device."""

    def work(path: Path) -> Sample:
        with loop_mounted(path, bench.folder / "guest") as folder:
            return reads(folder / GUEST_FILE)

    return work


def _escaped(path: Path) -> str:
    """Return a path as fio takes it, to which a colon separates two."""
    return str(path).replace(":", "\\:")
