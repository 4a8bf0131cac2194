"""The section `races`: listing, looking and opening at once, while some of the images come, go and change."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from tests.support.builder import make, write_stamped
from tests.support.stamps import difference, stamped
from tests.torture.many_readers import Crowd, Going
from tests.torture.mounting import mounted
from tests.torture.tally import Kind
from tests.torture.task import Task

__all__ = ["races"]

_MIB = 1 << 20
_SIZES = {1 * _MIB: 1, 2 * _MIB: 2}
"""Virtual size of an image: the generation of its bytes."""
_STABLE = [f"stable{number}.qcow2" for number in range(20)]
_MOVING = [f"moving{number}.qcow2" for number in range(20)]
_OF_EACH = 4
_EXPECTED = frozenset({errno.ENOENT, errno.ESTALE, errno.EBUSY, errno.EIO})
"""What may be answered about an image that moves."""


@dataclass(slots=True)
class Raced:
    """What one process saw."""

    done: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


def races(task: Task) -> None:
    """Let twelve processes look at the mount while images are replaced, removed and added."""
    source, models = task.folder / "src", task.folder / "models"
    source.mkdir()
    models.mkdir()
    for size, generation in _SIZES.items():
        make(models / str(size), size)
        write_stamped(models / str(size), {0: size}, generation)
    for name in _STABLE:
        shutil.copy(models / str(_MIB), source / name)
    with mounted(task, source) as mount:
        work = partial(_member, mount.path, task.seed)
        with Crowd(3 * _OF_EACH, work) as crowd:
            rng, events = task.rng, 0
            while task.left() > 0 and (task.count is None or events < task.count):
                _change(rng, source, models, task.folder / "fresh")
                events += 1
                task.tally.tried = events
                task.going()
            results, silent = crowd.results(60)
    task.tally.facts["looks"] = sum(each.done for each in results)
    task.tally.facts["refused while moving"] = sum(each.refused for each in results)
    for each in results:
        for what in each.wrong:
            task.found(Kind.WRONG, what)
    if silent:
        task.found(Kind.HANG, f"{silent} of {3 * _OF_EACH} processes gave no answer")


def _change(rng: Random, source: Path, models: Path, fresh: Path) -> None:
    """Replace, remove or add one of the images that move; by renaming, so that each is whole at any time."""
    image = source / rng.choice(_MOVING)
    if image.exists() and rng.random() < 0.3:
        image.unlink()
        return
    shutil.copy(models / str(rng.choice(list(_SIZES))), fresh)
    fresh.rename(image)


def _member(mountpoint: Path, seed: int, number: int, going: Going) -> Raced:
    raced, rng = Raced(), Random(seed * 1000 + number)
    looks: list[Callable[[Path, Random, Raced], None]] = [_list, _stat, _open]
    look = looks[number % len(looks)]
    while going() and len(raced.wrong) < 5:
        look(mountpoint, rng, raced)
        raced.done += 1
    return raced


def _list(mountpoint: Path, _rng: Random, raced: Raced) -> None:
    names = os.listdir(mountpoint / "raw")
    if len(names) != len(set(names)):
        raced.wrong.append(f"names twice: {sorted(name for name in names if names.count(name) > 1)[:3]}")
    missing = {f"{name}.raw" for name in _STABLE} - set(names)
    if missing:
        raced.wrong.append(f"not listed: {sorted(missing)[:3]}")


def _stat(mountpoint: Path, rng: Random, raced: Raced) -> None:
    name = rng.choice(_STABLE + _MOVING)
    try:
        status = os.stat(mountpoint / "raw" / f"{name}.raw")
    except OSError as error:
        _failed(name, error, raced)
        return
    if not _may_be(name, status.st_size):
        raced.wrong.append(f"stat: {name} is {status.st_size} bytes long")


def _open(mountpoint: Path, rng: Random, raced: Raced) -> None:
    name = rng.choice(_STABLE + _MOVING)
    try:
        descriptor = os.open(mountpoint / "raw" / f"{name}.raw", os.O_RDONLY)
    except OSError as error:
        _failed(name, error, raced)
        return
    try:
        size = os.fstat(descriptor).st_size
        if not _may_be(name, size) or not size:
            raced.wrong.append(f"open: {name} is {size} bytes long")
            return
        for offset in (size - 2048, rng.randrange(size)):
            data = os.pread(descriptor, 4096, offset)
            wanted = stamped(offset, min(4096, size - offset), _SIZES[size])
            if (what := difference(data, wanted, offset)) is not None:
                raced.wrong.append(f"{name}, {size} bytes long: {what}")
    except OSError as error:
        _failed(name, error, raced)
    finally:
        os.close(descriptor)


def _may_be(name: str, size: int) -> bool:
    """Whether an image may have that size; one that cannot be served at the moment has none."""
    return size == _MIB if name in _STABLE else size in _SIZES or size == 0


def _failed(name: str, error: OSError, raced: Raced) -> None:
    if name in _STABLE or error.errno not in _EXPECTED:
        raced.wrong.append(f"{name}: {errno.errorcode[error.errno or 0]}")
    else:
        raced.refused += 1
