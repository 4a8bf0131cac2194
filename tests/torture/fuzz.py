"""The section `fuzz`: damaged and generated chains. A seed gives one chain, and what is tried on it."""

import shutil
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import count as counting
from pathlib import Path
from random import Random

from tests.support import qcow2
from tests.torture.generated import generate
from tests.torture.memory_guard import MOST_MEMORY, Memory
from tests.torture.mutations import Files, mutate
from tests.torture.tally import Kind, Tally
from tests.torture.task import Task
from tests.torture.templates import COUNT, template
from tests.torture.trial import Trial
from tests.torture.workers import Try, try_seeds

__all__ = ["chain_of", "fuzz", "judge", "put_on_trial", "try_all", "try_seed"]

_BLOCK = 64 << 10
_MIB = 1 << 20
_MOST_KEPT = 192 << 20
"""After thousands of images; an allocator gives back less than was freed, a leak has no end."""
_MOST_SNAPSHOTS = 65_536


def fuzz(task: Task) -> None:
    """Try seed after seed. A hang is told only if it comes again: a machine may be busy."""
    templates = task.folder / "templates"
    templates.mkdir()
    try_all(task, partial(_prepare, templates, task.keep))


def try_all(task: Task, prepare: Callable[[Path], Try]) -> None:
    """Try seed after seed with what `prepare` returns, and tell of what went wrong."""
    workers = task.folder / "workers"
    workers.mkdir()
    for result in try_seeds(prepare, workers, task.jobs, _seeds(task)):
        task.tally.tried += 1
        for fact, value in result.tally.facts.items():
            if fact.startswith("most"):
                task.tally.most(fact, value)
            else:
                task.tally.add(fact, value)
        for finding in result.tally.findings:
            task.found(finding.kind, f"seed {result.seed}: {finding.what}")
    task.say(f"seeds {task.seed} to {task.seed + task.tally.tried - 1}; to repeat one: --seed N --count 1")


def _seeds(task: Task) -> Iterator[int]:
    for given, seed in enumerate(counting(task.seed)):
        if not task.going() or (task.count is not None and given >= task.count):
            return
        yield seed


def _prepare(templates: Path, keep: Path | None, folder: Path) -> Try:
    """Have everything loaded and warm before memory is measured."""
    for number in (5, 8):
        files = template(templates, number)
        for _ in range(3):
            put_on_trial(files, folder, Random(number), judged=False).run()
    return partial(try_seed, templates, keep, Memory())


def try_seed(templates: Path, keep: Path | None, memory: Memory, seed: int, folder: Path) -> Tally:
    """Put the chain of a seed on trial; findings tell how the chain was made."""
    files, history = chain_of(seed, templates)
    allowed = 1024 * sum(_snapshots_in(image) for image in files.values())  # images: docs/specification.md 5.9
    trial = put_on_trial(files, folder, Random(seed))
    files.clear()  # or its memory would be taken for that of vdifs
    return judge(trial, memory, "; ".join(history), allowed, None if keep is None else keep / str(seed))


def judge(trial: Trial, memory: Memory, history: str, allowed: int, keep: Path | None) -> Tally:
    """Run a trial within its bounds of time and memory, with `allowed` bytes more; keep what goes wrong in a folder."""
    again = replace(trial, rng=copy(trial.rng), tally=Tally())
    memory.forget_peak()
    tally = trial.run()
    peak = memory.peak()
    if tally.count(Kind.HANG):
        tally = again.run()
    tally.most("most memory in MiB", round(peak / _MIB, 1))
    tally.most("most memory kept in MiB", round(memory.kept() / _MIB, 1))
    if peak > MOST_MEMORY + allowed:
        tally.found(Kind.MEMORY, f"{peak / _MIB:.0f} MiB")
    if memory.kept() > _MOST_KEPT:
        tally.found(Kind.MEMORY, f"{memory.kept() / _MIB:.0f} MiB are left from earlier images")
    told = Tally(facts=tally.facts)
    for finding in tally.findings:
        told.found(finding.kind, f"{finding.what} [{history}]")
    if keep is not None and tally.findings:
        shutil.copytree(trial.folder, keep, dirs_exist_ok=True)
    return told


def chain_of(seed: int, templates: Path) -> tuple[Files, list[str]]:
    """Return the files of a seed's chain, top first, and how they were made."""
    rng = Random(seed)
    if rng.random() < 0.3:
        files = generate(rng)
        history = ["generated"]
        if rng.random() < 0.3:
            history += mutate(rng, files)
        return files, history
    number = rng.randrange(COUNT)
    files = template(templates, number)
    return files, [f"template {number}", *mutate(rng, files)]


def _snapshots_in(image: bytearray) -> int:
    """Return how many snapshots the header claims, as far as that may be."""
    count = qcow2.value(image, "nb_snapshots")
    return count if count <= _MOST_SNAPSHOTS else 0


def put_on_trial(files: Files, folder: Path, rng: Random, *, judged: bool = True) -> Trial:
    """Write the files of a chain, top first, to a folder, and return their trial."""
    chain, scratch = folder / "chain", folder / "scratch"
    for each in chain, scratch:
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    for name, data in files.items():
        _write_sparse(chain / name, data)
    return Trial(chain, chain / next(iter(files)), scratch, rng, judged)


def _write_sparse(path: Path, data: bytearray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    view = memoryview(data)
    with path.open("wb") as file:
        for at in range(0, len(data), _BLOCK):
            if data.count(0, at, at + _BLOCK) < min(_BLOCK, len(data) - at):
                file.seek(at)
                file.write(view[at : at + _BLOCK])
        file.truncate(len(data))
