"""What must hold of every image, whatever it is made of: the synthetic files, `map`, `measure` and `info`."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support import oracle
from tests.support.command_line import answer, export

Words = tuple[str | Path, ...]


def prove_full(image: str | Path, output: Path, *, like: Path, like_format: str = "qcow2", words: Words = ()) -> Path:
    """Prove the full image to QEMU: valid, the contents and the size of `like`, as long as measured; return it.

    words: more for every command, as in the proofs below.
    """
    measured = answer("measure", image, *words)
    export(image, output, *words)
    assert output.stat().st_size == measured["required"] <= measured["fully-allocated"]
    oracle.check(output)
    oracle.compare(output, like, right_format=like_format)
    return output


def prove_delta(
    image: str | Path, base: str | Path, backing: Path, output: Path, *, like: Path, words: Words = ()
) -> Path:
    """Prove the delta of an image against `base`, which QEMU finds in the file `backing`; return it."""
    measured = answer("measure", image, "--base", base, *words)
    export(image, output, "--base", base, "--backing-name", os.path.relpath(backing, output.parent), *words)
    assert output.stat().st_size == measured["required"] <= measured["fully-allocated"]
    oracle.check(output)
    oracle.compare(output, like)
    return output


def prove_info(image: Path, *, words: Words = ()) -> None:
    """Prove that `vdifs info` says all that `qemu-img info` does."""
    settle_blocks(image.parent)
    missing = list(missing_or_different(oracle.info(image), answer("info", image, *words)))
    assert missing == []


def settle_blocks(folder: Path) -> None:
    """Have the files in `folder` written: until then a file system may change its mind about the blocks in use."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def missing_or_different(wanted: Any, given: Any, where: str = "") -> Iterator[str]:
    """Yield each value that is wanted and not given, of objects inside too; more may be given."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for name, value in wanted.items():
            yield from missing_or_different(value, given.get(name, "nothing"), f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        for index, pair in enumerate(zip(wanted, given, strict=True)):
            yield from missing_or_different(*pair, f"{where}[{index}]")
    elif wanted != given:
        yield f"{where}: QEMU says {wanted!r}, vdifs {given!r}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a map: guest bytes [start, end)."""

    start: int
    end: int
    depth: int
    present: bool
    data: bool
    offset: int | None
    zero: bool | None  # None: it was not asked for

    def followed_by(self, other: "Run") -> bool:
        """Tell whether `other` goes on saying the same."""
        same = (self.depth, self.present, self.data, self.zero) == (other.depth, other.present, other.data, other.zero)
        expected = None if self.offset is None else self.offset + self.end - self.start
        return same and other.offset == expected


def prove_map(image: str | Path, like: Path, *, like_format: str = "qcow2", words: Words = ()) -> None:
    """Prove that `vdifs map` says of each byte what `qemu-img map` does; zeros may be known better, never worse.

    like: the file that QEMU is asked about.
    """
    prove_same_map(answer("map", image, *words), map_by_qemu(like, like_format))


def prove_map_down_to(image: Path, base: Path, depth: int) -> None:
    """Prove that `vdifs map --base` tells the same but of the base and what is below, which it does not look into."""
    by_qemu = [
        run if run.depth < depth else Run(run.start, run.end, depth, present=False, data=False, offset=None, zero=False)
        for run in map_by_qemu(image, "qcow2")
    ]
    prove_same_map(answer("map", image, "--base", base), by_qemu)


def map_by_qemu(image: Path, format: str) -> list["Run"]:  # noqa: A002 - QEMU's word
    extents = [extent for extent in oracle.map_of(image, format) if extent.start < extent.end]  # one, of an empty disk
    return [Run(e.start, e.end, e.depth, e.present, e.data, e.offset, e.zero) for e in extents]


def prove_same_map(told: list[dict[str, Any]], by_qemu: list["Run"]) -> None:
    """Prove that an answer of `vdifs map` is the shortest that says what QEMU does."""
    by_vdifs = [run_told(each) for each in told]
    assert list(merged(by_vdifs)) == by_vdifs
    assert list(merged(without_zero(by_vdifs))) == list(merged(without_zero(by_qemu)))
    files = {each["depth"]: Path(each["filename"]) for each in told if "filename" in each}
    for start, end, ours, theirs in side_by_side(by_vdifs, by_qemu):
        assert ours.zero or not theirs.zero, f"QEMU knows that [{start:#x}, {end:#x}) is zeros, vdifs does not"
        if ours.zero and not theirs.zero:
            assert ours.offset is not None, f"no bytes to look at in [{start:#x}, {end:#x})"
            assert reads_zero(files[ours.depth], ours.offset + start - ours.start, end - start)


def run_told(told: dict[str, Any]) -> "Run":
    start = told["start"]
    what = (told["depth"], told["present"], told["data"], told.get("offset"), told["zero"])
    return Run(start, start + told["length"], *what)


def without_zero(runs: Iterable[Run]) -> Iterator[Run]:
    for run in runs:
        yield Run(run.start, run.end, run.depth, run.present, run.data, run.offset, None)


def merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Yield the fewest runs that say the same."""
    pending: Run | None = None
    for run in runs:
        if pending is not None and pending.followed_by(run):
            last = pending
            pending = Run(last.start, run.end, last.depth, last.present, last.data, last.offset, last.zero)
        else:
            if pending is not None:
                yield pending
            pending = run
    if pending is not None:
        yield pending


def side_by_side(left: list[Run], right: list[Run]) -> Iterator[tuple[int, int, Run, Run]]:
    """Yield the pieces of the disk within which neither changes, and what both say of each."""
    ends = sorted({0, *(run.end for run in left), *(run.end for run in right)})
    lefts, rights = iter(left), iter(right)
    mine = theirs = None
    for start, end in pairwise(ends):
        if mine is None or mine.end <= start:
            mine = next(lefts)
        if theirs is None or theirs.end <= start:
            theirs = next(rights)
        yield start, end, mine, theirs


def reads_zero(file: Path, offset: int, length: int) -> bool:
    """Tell whether a range of a file holds zeros, or nothing beyond its end."""
    with file.open("rb") as opened:
        opened.seek(offset)
        while length > 0 and (part := opened.read(min(length, 1 << 20))):
            if part.count(0) != len(part):
                return False
            length -= len(part)
    return True
