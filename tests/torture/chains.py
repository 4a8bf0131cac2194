"""A chain that changes: base.qcow2 <- top.qcow2, and alt.qcow2 to change bases. Every event, and what it makes of them.

    base, alt   hold every cluster
    top         holds every second one, until QEMU writes, commits or reverts it; a fresh one takes its place then

A page's generation says which event wrote it. Events that write in place go from the first page to the last, by one
system call for each, so that a state in between is the new one up to some page and the old one from there on.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.support import oracle
from tests.support.builder import make, write_stamped
from tests.support.stamps import stamped
from tests.torture.states import PAGE, History

__all__ = ["SIZE", "Event", "Family", "Models"]

SIZE = 1 << 20
_CLUSTER = 64 << 10
_PAGES = SIZE // PAGE
_PER_CLUSTER = _CLUSTER // PAGE
_MOST_GENERATIONS = 60_000


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. names: the images whose old state must not be served any more to who has it open."""

    what: str
    in_place: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Models:
    """A full image and a half one, and where their pages lie in the file: page -> host offset."""

    full: Path
    half: Path
    full_pages: dict[int, int]
    half_pages: dict[int, int]

    @classmethod
    def made(cls, folder: Path) -> "Models":
        """Make them in a new folder."""
        folder.mkdir()
        full, half = folder / "full.qcow2", folder / "half.qcow2"
        make(full, SIZE)
        write_stamped(full, {0: SIZE}, 0)
        shutil.copy(full, folder / "base.qcow2")
        make(half, SIZE, backing=("base.qcow2", "qcow2"))
        write_stamped(half, dict.fromkeys(range(_CLUSTER, SIZE, 2 * _CLUSTER), _CLUSTER), 0)
        return cls(full, half, _places(full), _places(half))


def _places(image: Path) -> dict[int, int]:
    found = {}
    for extent in oracle.map_of(image):
        if extent.depth == 0 and extent.data and extent.offset is not None:
            for at in range(extent.start, extent.end, PAGE):
                found[at // PAGE] = extent.offset + at - extent.start
    return found


def _stamp(image: Path, pages: dict[int, int], generation: int) -> None:
    """Overwrite pages of an image in place, first to last."""
    descriptor = os.open(image, os.O_WRONLY)
    try:
        for page, place in sorted(pages.items()):
            os.pwrite(descriptor, stamped(page * PAGE, PAGE, generation), place)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Family:
    """The files of one chain, what they hold, and what they held."""

    folder: Path
    models: Models
    fresh: Path
    rng: Random
    generation: int = 0
    backing: str = "base.qcow2"
    regular: bool = False
    base: list[int] = field(default_factory=list)
    alt: list[int] = field(default_factory=list)
    top: list[int | None] = field(default_factory=list)
    saved: list[int | None] | None = None
    histories: dict[str, History] = field(default_factory=lambda: {"base": History(), "top": History()})

    def begin(self) -> None:
        """Make the files."""
        self.folder.mkdir(parents=True)
        began = time.monotonic()
        self._renew("base")
        self._renew("alt")
        self._renew("top")
        self._note(began)

    def state(self, name: str) -> tuple[int, ...]:
        """Return the generation of each page of an image's disk; 0 for zeros."""
        if name == "base":
            return tuple(self.base)
        below = self.base if self.backing == "base.qcow2" else self.alt
        below = below + [0] * (len(self.top) - len(below))
        return tuple(below[at] if mine is None else mine for at, mine in enumerate(self.top))

    def happen(self) -> Event:
        """Let an event happen, and note the states it leads to."""
        began = time.monotonic()
        event = self.rng.choice(self._events())()
        self._note(began)
        return event

    def _events(self) -> list[Callable[[], Event]]:
        if self.saved is not None:
            return [self._revert]
        common = [self._rename_top, self._rename_base, self._unlink_top, self._overwrite_base, self._truncate_top]
        if not self.regular:
            return common
        return [*common, self._overwrite_top, self._write_top, self._commit, self._snapshot, self._resize, self._rebase,
                self._rebase_safely]  # fmt: skip

    def _note(self, began: float) -> None:
        ended = time.monotonic()
        for name, history in self.histories.items():
            history.add(self.state(name), began, ended)

    def _next(self) -> int:
        self.generation = self.generation % _MOST_GENERATIONS + 1
        return self.generation

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.qcow2"

    def _renew(self, name: str) -> None:
        """Put a new file in the place of an image, whole, by renaming."""
        self._make_fresh(name)
        self._put_fresh(name)

    def _make_fresh(self, name: str) -> None:
        model, pages = (
            (self.models.half, self.models.half_pages) if name == "top" else (self.models.full, self.models.full_pages)
        )
        shutil.copyfile(model, self.fresh)
        _stamp(self.fresh, pages, self._next())

    def _put_fresh(self, name: str) -> None:
        os.replace(self.fresh, self._path(name))
        match name:
            case "base":
                self.base = [self.generation] * _PAGES
            case "alt":
                self.alt = [self.generation] * _PAGES
            case _:
                self.top = [self.generation if page in self.models.half_pages else None for page in range(_PAGES)]
                self.backing, self.regular, self.saved = "base.qcow2", True, None

    def _rename_top(self) -> Event:
        self._renew("top")
        return Event("top renamed over")

    def _rename_base(self) -> Event:
        self._renew("base")
        return Event("base renamed over")

    def _unlink_top(self) -> Event:
        self._make_fresh("top")
        self._path("top").unlink()
        time.sleep(self.rng.uniform(0, 0.05))
        self._put_fresh("top")
        return Event("top unlinked, another one came")

    def _truncate_top(self) -> Event:
        """Cut the file where a cluster ends: what lies behind cannot be read, what lies before may be."""
        self._make_fresh("top")
        size = self._path("top").stat().st_size
        os.truncate(self._path("top"), self.rng.randrange(0, size + 1, _CLUSTER))
        time.sleep(self.rng.uniform(0, 0.05))
        self._put_fresh("top")
        return Event("top truncated, another one came", ("top",))

    def _overwrite_base(self) -> Event:
        _stamp(self._path("base"), self.models.full_pages, self._next())
        self.base = [self.generation] * _PAGES
        return Event("base overwritten in place", ("base", "top") if self.backing == "base.qcow2" else ("base",))

    def _overwrite_top(self) -> Event:
        _stamp(self._path("top"), self.models.half_pages, self._next())
        self.top = [None if mine is None else self.generation for mine in self.top]
        return Event("top overwritten in place", ("top",))

    def _write_top(self) -> Event:
        """Written by QEMU, which then holds every cluster in it."""
        write_stamped(self._path("top"), {0: SIZE}, self._next())
        self.top = [self.generation] * _PAGES
        self.regular = False
        return Event("top written by QEMU", ("top",))

    def _commit(self) -> Event:
        oracle.qemu_img("commit", "-q", self._path("top"))
        below = self.base if self.backing == "base.qcow2" else self.alt
        for page, mine in enumerate(self.top):
            below[page] = below[page] if mine is None else mine
        self.top = [None] * _PAGES
        self.regular = False
        return Event("qemu-img commit", ("top", "base") if self.backing == "base.qcow2" else ("top",))

    def _snapshot(self) -> Event:
        oracle.qemu_img("snapshot", "-c", "one", self._path("top"))
        self.saved = list(self.top)
        if self.rng.random() < 0.5:
            write_stamped(self._path("top"), {0: SIZE}, self._next())
            self.top = [self.generation] * _PAGES
        return Event("qemu-img snapshot -c", ("top",))

    def _revert(self) -> Event:
        assert self.saved is not None, "chosen only after a snapshot"
        oracle.qemu_img("snapshot", "-a", "one", self._path("top"))
        self.top, self.saved, self.regular = self.saved, None, False
        return Event("qemu-img snapshot -a", ("top",))

    def _resize(self) -> Event:
        oracle.qemu_img("resize", "-q", self._path("top"), str(2 * SIZE))
        self.top = self.top + [None] * _PAGES
        self.regular = False
        return Event("qemu-img resize", ("top",))

    def _rebase(self) -> Event:
        """To another base, without a look at the data."""
        self.backing = "alt.qcow2" if self.backing == "base.qcow2" else "base.qcow2"
        oracle.qemu_img("rebase", "-u", "-b", self.backing, "-F", "qcow2", self._path("top"))
        return Event("qemu-img rebase -u", ("top",))

    def _rebase_safely(self) -> Event:
        """To another base; what differs is copied into the top."""
        before = self.state("top")
        self.backing = "alt.qcow2" if self.backing == "base.qcow2" else "base.qcow2"
        oracle.qemu_img("rebase", "-b", self.backing, "-F", "qcow2", self._path("top"))
        self.top = list(before)
        self.regular = False
        return Event("qemu-img rebase", ("top",))
