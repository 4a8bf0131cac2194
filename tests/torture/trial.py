"""One fuzzed chain on trial: everything vdifs does with it, under limits, and QEMU's bytes beside what it reads."""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

import click

import vdifs
import vdifs.cli.main
from tests.torture import system_zstd
from tests.torture import verdicts as judge
from tests.torture.memory_guard import CrashError, TooLong, guarded
from tests.torture.tally import Kind, Tally
from vdifs.catalog.catalog import Catalog
from vdifs.errors import VdifsError

__all__ = ["Trial"]

_KIB, _MIB = 1 << 10, 1 << 20
_WHOLE = 8 * _MIB
_PIECE = 64 * _KIB
_WINDOW = 256 * _KIB
_MOST_OUTPUT = 24 * _MIB
_COMMANDS = ["info", "map", "measure", "check", "list"]
_SECTOR = 512


@dataclass(slots=True)
class Trial:
    """Tries the chain in `folder`, whose top is `top`. scratch: for what vdifs and QEMU make of it.

    reader: what writes a disk, or a window of it, as it must be, or returns False. is_strict: whether that must then be
    refused. is_backing: whether images of this format are backing files of their deltas as they are. zstd_differs:
    damaged zstd data were met that QEMU's libzstd takes for other bytes than vdifs's.
    """

    folder: Path
    top: Path
    scratch: Path
    rng: Random
    judged: bool = True
    reader: Callable[[Path, Path, tuple[int, int] | None], bool] = judge.read
    reader_name: str = "QEMU"
    is_backing: bool = True
    is_strict: bool = False
    tally: Tally = field(default_factory=Tally)
    zstd_differs: bool = False

    def run(self) -> Tally:
        """Try everything; findings name the step, and nothing is raised."""
        others = [step for step in (self._full, self._deltas, self._catalog, self._command) if self.rng.random() < 0.5]
        for step in (self._raw, *others):
            try:
                step()
            except CrashError as error:
                self.tally.found(Kind.CRASH, str(error))
            except TooLong as error:
                self.tally.found(Kind.HANG, str(error))
            except VdifsError:
                self.tally.add("refused")
        return self.tally

    def _raw(self) -> None:
        """The guest contents, piece by piece, against QEMU's."""
        with guarded("open raw"):
            image = vdifs.open(self.top, view="raw", trusted=[self.folder])
        with image:
            self.tally.add("accepted")
            if image.size <= _WHOLE:
                self._compare(image, None)
            else:
                for window in self._windows(image):
                    self._compare(image, window)

    def _windows(self, image: vdifs.Image) -> list[tuple[int, int]]:
        with guarded("regions"):
            starts = [region.start for region in islice(image.regions(), 64)]
        wanted = [
            0,
            image.size - _WINDOW,
            *self.rng.sample(starts, min(3, len(starts))),
            self.rng.randrange(image.size),
        ]
        offsets = sorted({max(0, min(at, image.size - _WINDOW)) // _SECTOR * _SECTOR for at in wanted})
        return [(at, _WINDOW) for at in offsets]

    def _compare(self, image: vdifs.Image, window: tuple[int, int] | None) -> None:
        """Read a window, or all, and compare what could be read with what QEMU reads."""
        start, length = window or (0, image.size)
        ours, theirs = self.scratch / "ours", self.scratch / "theirs"
        good = list(self._read_pieces(image, start, length, ours))
        if not good or not self.judged:
            return
        if not self.reader(self.top, theirs, window):
            self.tally.add(f"{self.reader_name} refuses what vdifs reads")
            if self.is_strict:
                self.tally.found(Kind.WRONG, f"read, though {self.reader_name} refuses it")
            return
        self.tally.add(f"compared with {self.reader_name}")
        if window is None and theirs.stat().st_size != length:
            self.tally.found(Kind.WRONG, f"{length} bytes long, for {self.reader_name} {theirs.stat().st_size}")
        with ours.open("rb") as found, theirs.open("rb") as wanted:
            for offset, size in good:
                right = os.pread(wanted.fileno(), size, offset)
                if os.pread(found.fileno(), size, offset) == right:
                    continue
                if self._reads_with_qemus_zstd(start + offset, right):
                    self.zstd_differs = True
                    self.tally.add("damaged zstd data that two versions of libzstd take for others")
                    continue
                self.tally.found(Kind.WRONG, f"raw contents from {start + offset:#x} on, {size} bytes")
                return

    def _reads_with_qemus_zstd(self, offset: int, right: bytes) -> bool:
        """Tell whether vdifs reads what QEMU reads once it has the same version of libzstd."""
        try:
            with system_zstd.in_place(), vdifs.open(self.top, view="raw", trusted=[self.folder]) as image:
                return image.read_at(offset, len(right)) == right
        except VdifsError:
            return False

    def _read_pieces(self, image: vdifs.Image, start: int, length: int, output: Path) -> Iterator[tuple[int, int]]:
        """Write what can be read to a file; yield where that is: (offset from `start`, length)."""
        with output.open("wb") as file:
            for offset in range(0, length, _PIECE):
                size = min(_PIECE, length - offset)
                try:
                    with guarded(f"read raw at {start + offset:#x}"):
                        data = image.read_at(start + offset, size)
                except VdifsError:
                    self.tally.add("reads refused")
                    continue
                if len(data) != size:
                    self.tally.found(Kind.WRONG, f"{len(data)} bytes instead of {size} at {start + offset:#x}")
                    continue
                file.seek(offset)
                file.write(data)
                yield offset, size
            file.truncate(length)

    def _full(self) -> None:
        """The flattened image: sound, and with QEMU's contents."""
        with guarded("open full"):
            image = vdifs.open(self.top, trusted=[self.folder])
        with image:
            output = self._write(image, self.scratch / "full.qcow2")
        if output is not None:
            self._prove(output, "full image")

    def _deltas(self) -> None:
        """A delta against the image itself or an ancestor."""
        bases = sorted(path for path in self.folder.rglob("*") if path.is_file())
        base = self.rng.choice([self.top, *bases])
        backing = base if self.is_backing or base.suffix == ".raw" else self._full_of(base)
        if backing is None:
            return
        with guarded("open delta"):
            image = vdifs.open(self.top, base=base, backing_name=str(backing), trusted=[self.folder])
        with image:
            output = self._write(image, self.scratch / "delta.qcow2")
        if output is not None:
            self._prove(output, f"delta against {base.name}")

    def _full_of(self, base: Path) -> Path | None:
        with guarded("open base"):
            image = vdifs.open(base, trusted=[self.folder])
        with image:
            return self._write(image, self.scratch / "base.qcow2")

    def _write(self, image: vdifs.Image, output: Path) -> Path | None:
        """Write a synthetic file; None if it is long, or cannot all be read. Of a long one, parts are read."""
        if image.size > _MOST_OUTPUT:
            for _ in range(8):
                with guarded("read full"), contextlib.suppress(VdifsError):
                    image.read_at(self.rng.randrange(image.size), _WINDOW)
            return None
        with output.open("wb") as file:
            for offset in range(0, image.size, _PIECE):
                with guarded(f"read at {offset:#x}"):
                    data = image.read_at(offset, _PIECE)
                if len(data) != min(_PIECE, image.size - offset):
                    self.tally.found(Kind.WRONG, f"{len(data)} bytes at {offset:#x} of {image.size}")
                    return None
                file.write(data)
        return output

    def _prove(self, output: Path, what: str) -> None:
        if not self.judged or self.zstd_differs:
            return
        theirs = self.scratch / "theirs"
        if not self.reader(self.top, theirs, None):
            return
        if (wrong := judge.check(output)) is not None:
            self.tally.found(Kind.WRONG, f"{what}: qemu-img check: {wrong}")
        self.tally.add("synthetic files proved")
        if (wrong := judge.same(theirs, output)) is not None:
            self.tally.found(Kind.WRONG, f"{what}: qemu-img compare: {wrong}")

    def _catalog(self) -> None:
        """What a mount does: scan, and open every image and snapshot that is listed."""
        with guarded("scan"):
            catalog = Catalog(str(self.folder))
            catalog.scan()
        with contextlib.closing(catalog):
            entries = [entry for entry in catalog.entries.values() if entry.snapshot is not None]
        for entry in entries[:4]:
            name = entry.snapshot or ""
            path = self.folder / entry.file_path
            try:
                with guarded(f"open snapshot {name!r}"):
                    image = vdifs.open(path, view="raw", snapshot=name, trusted=[self.folder])
                with image:
                    self._compare_snapshot(image, path, name)
            except VdifsError:
                self.tally.add("refused")

    def _compare_snapshot(self, image: vdifs.Image, path: Path, name: str) -> None:
        self.tally.add("snapshots accepted")
        if image.size > _WHOLE:
            return
        ours, theirs = self.scratch / "ours", self.scratch / "theirs"
        good = list(self._read_pieces(image, 0, image.size, ours))
        if not (self.judged and re.fullmatch(r"[a-z]+", name) and judge.read_snapshot(path, name, theirs)):
            return
        with ours.open("rb") as found, theirs.open("rb") as wanted:
            for offset, size in good:
                other = os.pread(wanted.fileno(), size, offset)  # QEMU reads as far as the active disk goes
                if os.pread(found.fileno(), len(other), offset) != other:
                    self.tally.found(Kind.WRONG, f"snapshot {name!r} from {offset:#x} on")
                    return

    def _command(self) -> None:
        """A command that looks into images, as the command line runs it."""
        command = self.rng.choice(_COMMANDS)
        target = self.folder if command in ("check", "list") else self.top
        arguments = [command, str(target), f"--output={self.rng.choice(['human', 'json'])}"]
        if command not in ("check", "list"):
            arguments += ["--trust", str(self.folder)]
        with contextlib.redirect_stdout(_terminal()), contextlib.redirect_stderr(_terminal()):
            try:
                with guarded(f"vdifs {command}"):
                    vdifs.cli.main.cli.main(arguments, prog_name="vdifs", standalone_mode=False)
            except CrashError as error:
                if not isinstance(error.__cause__, click.ClickException):
                    raise
        self.tally.add("commands")


class _Nowhere(io.RawIOBase):
    """Takes what is printed and keeps none of it."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return len(data)  # type: ignore[arg-type] # any buffer


def _terminal() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(_Nowhere()), encoding="utf-8", errors="backslashreplace")
