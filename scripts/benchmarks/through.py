"""Work on a served file as a run: a fresh mount each time, whose page cache is cold, and what its daemon used."""

import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.chains import Chain
from benchmarks.contest import Bench, Run, Sample
from benchmarks.processes import Daemon, run, timed
from benchmarks.servers import storage_daemon, vdifs_mount
from benchmarks.sizes import GIB, KIB

__all__ = [
    "Work",
    "copied_to",
    "prove_raw",
    "random_reads",
    "read_per_gib",
    "read_rate",
    "through_qemu",
    "through_vdifs",
]

Work = Callable[[Path], Sample]
"""Called with the served file; its sample leaves the daemon out."""

RAW = "raw/x.qcow2.raw"


def through_vdifs(bench: Bench, chain: Chain, work: Work, path: str = RAW) -> Run:
    """Return a run of `work` on the file `path` of a mount of the chain's folder."""
    mountpoint = bench.folder / "mnt"

    def once() -> Sample:
        with vdifs_mount(chain.folder, mountpoint) as server:
            return _with_daemon(server, work, mountpoint / path)

    return once


def through_qemu(bench: Bench, chain: Chain, work: Work) -> Run:
    """Return a run of `work` on the chain's guest contents, served by qemu-storage-daemon."""
    mountpoint = bench.folder / "exported"

    def once() -> Sample:
        with storage_daemon(chain.top, mountpoint) as server:
            return _with_daemon(server, work, mountpoint)

    return once


def _with_daemon(server: Daemon, work: Work, path: Path) -> Sample:
    before = server.cpu()
    sample = work(path)
    return Sample(sample.value, sample.cpu + server.cpu() - before, server.growth())


def prove_raw(bench: Bench, chain: Chain) -> None:
    """Raise FailedError unless the mount's raw file is what QEMU reads from the chain."""
    mountpoint = bench.folder / "mnt"
    with vdifs_mount(chain.folder, mountpoint):
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", mountpoint / RAW, chain.top)


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


def _escaped(path: Path) -> str:
    """Return a path as fio takes it, to which a colon separates two."""
    return str(path).replace(":", "\\:")
