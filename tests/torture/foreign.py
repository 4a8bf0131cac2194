"""The sections `fuzz-FORMAT`: damaged chains of formats other than qcow2, against a reader as simple as can be.

A seed gives one chain, made by the builder of its format, and what is damaged in it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.torture.foreign_formats import Foreign
from tests.torture.fuzz import judge, put_on_trial, try_all
from tests.torture.memory_guard import Memory
from tests.torture.mutations import Files, number
from tests.torture.tally import Tally
from tests.torture.task import Task
from tests.torture.trial import Trial
from tests.torture.workers import Try

__all__ = ["damaged_chain", "fuzz_foreign", "try_foreign"]

_READER = "a simple reader"
_NEAR = 6
"""Of a number, so many before it and behind it are copied over it: entries of the same table."""
_REWRITTEN = 0.4
"""Of damage in a file with text and numbers, this part is done to the text, or as a format has a way of its own."""


def fuzz_foreign(foreign: Foreign, task: Task) -> None:
    """Try seed after seed."""
    try_all(task, partial(_prepare, foreign, task.keep))


def _prepare(foreign: Foreign, keep: Path | None, folder: Path) -> Try:
    """Have everything loaded and warm before memory is measured."""
    for seed in range(6):
        files = _chain(foreign, Random(seed))
        replace(_trial(foreign, files, folder, seed), judged=False).run()
    return partial(try_foreign, foreign, keep, Memory())


def try_foreign(foreign: Foreign, keep: Path | None, memory: Memory, seed: int, folder: Path) -> Tally:
    """Put the chain of a seed on trial; findings tell how it was damaged."""
    files, history = damaged_chain(foreign, seed)
    trial = _trial(foreign, files, folder, seed)
    files.clear()  # or its memory would be taken for that of vdifs
    return judge(trial, memory, "; ".join(history), 0, None if keep is None else keep / f"{foreign.name}-{seed}")


def damaged_chain(foreign: Foreign, seed: int) -> tuple[Files, list[str]]:
    """Return the files of a seed's chain, top first, and how they were damaged: some not at all."""
    rng = Random(seed)
    files = _chain(foreign, rng)
    history = [f"{len(files)} files"]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 4])):
        name = rng.choice(list(files))
        history.append(f"{name}: {_damage(foreign, rng, files[name])}")
    return files, history


def _chain(foreign: Foreign, rng: Random) -> Files:
    with TemporaryDirectory() as folder:
        paths = foreign.make(rng, Path(folder))
        return {path.name: bytearray(path.read_bytes()) for path in paths}


def _damage(foreign: Foreign, rng: Random, image: bytearray) -> str:
    """Damage a file, and tell how. Checksums are mostly made right again."""
    if (rewritten := _rewrite(foreign, rng, image)) is not None:
        return rewritten
    mend = foreign.mend if rng.random() < 0.85 else None
    drawn = rng.random()
    if drawn < 0.1:
        what = _cut_or_longer(rng, image)
    elif drawn < 0.2 and image:
        at = rng.randrange(len(image))
        image[at : at + 4] = rng.randbytes(min(4, len(image) - at))
        what = f"any bytes at {at:#x}"
    else:
        what = _change_number(foreign, rng, image)
    if mend is None:
        return what
    mend(image)
    return f"{what} and right checksums"


def _rewrite(foreign: Foreign, rng: Random, image: bytearray) -> str | None:
    """Damage text in a file, sometimes if there are numbers too; None if nothing was done."""
    if foreign.rewrite is None or (rng.random() >= _REWRITTEN and foreign.numbers(bytes(image))):
        return None
    return foreign.rewrite(rng, image) or None


def _change_number(foreign: Foreign, rng: Random, image: bytearray) -> str:
    places = [(at, length) for at, length in foreign.numbers(bytes(image)) if at >= 0 and at + length <= len(image)]
    if not places:
        return "nothing"
    index = rng.randrange(len(places))
    at, length = places[index]
    alike = [other for other, its in places[max(0, index - _NEAR) : index + _NEAR] if its == length]
    if rng.random() < 0.3:
        new = bytes(image[(other := rng.choice(alike)) : other + length])
    else:
        old = int.from_bytes(image[at : at + length], foreign.order)
        new = number(rng, 8 * length, old).to_bytes(length, foreign.order)
    told = f"{length} bytes at {at:#x}: {image[at : at + length].hex()} -> {new.hex()}"
    image[at : at + length] = new
    return told


def _cut_or_longer(rng: Random, image: bytearray) -> str:
    old = len(image)
    if rng.random() < 0.7 and image:
        del image[rng.choice([old - 1, max(0, old - 512), rng.randrange(old)]) :]
    else:
        image += rng.choice([bytes(1), bytes(512), bytes(4096), bytes(image[-512:]), bytes(image[:512])])
    return f"{old} bytes long -> {len(image)}"


def _trial(foreign: Foreign, files: Files, folder: Path, seed: int) -> Trial:
    trial = put_on_trial(files, folder, Random(seed))
    names = list(files)
    reader = partial(_read_plainly, foreign, names)
    return replace(trial, reader=reader, reader_name=_READER, is_strict=True, is_backing=False)


def _read_plainly(
    foreign: Foreign, names: Sequence[str], top: Path, output: Path, window: tuple[int, int] | None
) -> bool:
    """Write what the simple reader reads of a chain that vdifs has read; False if it refuses to."""
    files = {name: (top.parent / name).read_bytes() for name in names}
    try:
        start, length = window or (0, foreign.size(files[names[0]]))
        output.write_bytes(foreign.read(files, start, start + length))
    except ValueError:
        return False
    return True
