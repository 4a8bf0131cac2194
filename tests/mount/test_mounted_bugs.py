"""A bug anywhere in the operations costs one request: an exception at every call and await, one after the other.

After each the mount must do everything again: list, look into images, read every byte, notice a change in the source,
tell those who hold the old state, end.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.mount import images
from tests.mount.mounting import Mounts, eventually, is_running
from tests.mount.planting import ASIDE, Control, Site, sites
from tests.support.builder import make
from tests.support.stamps import stamped

MIB = 1 << 20
LANES = 4
DEADLINE_S = 4.0


class Lane:
    """A mount with planted exceptions, its source, and what it should show."""

    def __init__(self, mounts: Mounts, number: int) -> None:
        self.source = mounts.scratch / f"lane{number}"
        self.source.mkdir()
        self.raw = self.source / "x.raw"
        self.top = self.source / "top.qcow2"
        self.generation = 0
        self.change()
        make(self.top, MIB, backing=("x.raw", "raw"))
        self.broken = {"header.qcow2", "tables.qcow2"}
        """Images that cannot be served, as their headers tell, and as opening shows; they are not listed."""
        for name, damage in zip(sorted(self.broken), (images.damage_header, images.damage_l2), strict=True):
            make(self.source / name, MIB, "write 0 64k")
            damage(self.source / name)
        self.control = Control(mounts.scratch / f"control{number}")
        through = ["tests.mount.planting", str(mounts.scratch / f"control{number}")]
        self.mounted = mounts(self.source, module=through, deadline=DEADLINE_S, refused="hide")
        self.mounted.allow_log("")
        self.untried = 0
        self.kept = 0
        """Images that stay open, as it was their closing that failed."""
        self.view = self.mounted / "raw/x.raw.raw"

    def change(self) -> None:
        """Bring the source to its next state, of the same size."""
        self.generation += 1
        self.raw.write_bytes(stamped(0, MIB, self.generation))

    def shows(self, path: Path) -> bool:
        """Whether a file of the mount holds the present state."""
        try:
            return path.read_bytes() == stamped(0, MIB, self.generation)
        except OSError:
            return False

    def use(self) -> None:
        """Do whatever can be done with a mount, and have the source change meanwhile."""
        for _ in self.steps():
            pass

    def use_until_it_raises(self) -> None:
        """Do the same, but no more once the armed site has raised; what has to go on working is checked then."""
        for _ in self.steps():
            if not self.control.armed:
                return

    def steps(self) -> Iterator[None]:
        """Do one thing after the other."""
        for folder, _, names in os.walk(self.mounted.path):
            yield
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    path.stat()
                with suppress(OSError):
                    for attribute in os.listxattr(path):
                        os.getxattr(path, attribute)
                with suppress(OSError):
                    path.read_bytes()
                yield
        for action in (os.statvfs, os.listxattr):
            with suppress(OSError):
                action(self.mounted.path)
        with suppress(OSError):
            (self.mounted / "full/nothing").stat()
        yield
        for name in ("more.qcow2", "nothing", "nothing/more"):  # a delta that is not listed, and what is none
            with suppress(OSError):
                (self.mounted / "delta/top.qcow2" / name).read_bytes()
        yield
        with suppress(OSError), self.view.open("rb", buffering=0) as file:
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                with suppress(OSError):
                    os.lseek(file.fileno(), 8192, whence)
            os.pread(file.fileno(), 4096, 0)
            extra = self.source / "more.qcow2"
            if extra.exists():
                extra.unlink()
            else:
                extra.write_bytes(self.top.read_bytes())
            self.change()
            with suppress(OSError):
                os.pread(file.fileno(), 4096, 4096)
            with suppress(OSError):
                self.view.stat()

    def hold(self) -> None:
        """Have a file open, all of it cached, until it is known that its source has changed."""
        with suppress(OSError, AssertionError), self.view.open("rb", buffering=0) as file:
            file.read()
            self.change()
            eventually(lambda: is_stale(file.fileno()), within=1)
            os.fstat(file.fileno())

    def check(self) -> None:
        """Raise AssertionError unless all is well."""
        eventually(lambda: self.shows(self.view) and self.shows(self.mounted / "raw/top.qcow2.raw"), within=30)
        there = {path.name for path in self.source.iterdir()} - self.broken
        eventually(lambda: set(os.listdir(self.mounted / "full")) >= there - {"x.raw"}, within=30)
        eventually(lambda: set(os.listdir(self.mounted / "full")) <= {*there, "x.raw.qcow2"}, within=30)
        assert self.mounted.status()["images_open"] <= 16 + self.kept, "an image is never closed again"
        with self.view.open("rb", buffering=0) as file:
            assert file.read(4096)
            self.change()
            eventually(lambda: is_stale(file.fileno()), within=30)

    def survives(self, site: Site) -> str | None:
        """Return what is wrong after an exception at that site, None for nothing."""
        self.control.armed = site.number
        self.kept += ".release(" in site.text or site.function == "release"
        try:
            use = self.use_until_it_raises
            for action in (use, use, self.hold, use, self.hold):
                action()
                if not self.control.armed:
                    break
                time.sleep(0.1)
            self.untried += self.control.armed != 0
            self.control.armed = 0
            self.check()
        except (AssertionError, OSError) as error:
            return f"{site}: {error!r}"
        finally:
            self.control.armed = 0
        return None


def is_stale(descriptor: int) -> bool:
    """Whether reading what the kernel has in its cache fails."""
    try:
        os.pread(descriptor, 4096, 0)
    except OSError:
        return True
    return False


@contextmanager
def lanes(mounts: Mounts, count: int) -> Iterator[list[Lane]]:
    made = [Lane(mounts, number) for number in range(count)]
    yield made
    for lane in made:
        assert is_running(lane.mounted.pid), lane.mounted.log_file.read_text()[-4000:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["calls", "awaits"])
def test_an_exception_anywhere_in_the_operations_costs_no_mount(mounts: Mounts, kind: str) -> None:
    found = {site.number: site for site in sites()}
    with lanes(mounts, LANES) as made:
        for lane in made:
            lane.control.forget()
            for _ in range(3):
                lane.use()
            lane.check()
        passed = set.intersection(*[lane.control.passed() for lane in made])
        wanted = [found[number] for number in sorted(passed) if found[number].is_await == (kind == "awaits")]
        total = sum(site.is_await == (kind == "awaits") for site in found.values())
        shares = [wanted[index::LANES] for index in range(LANES)]
        with ThreadPoolExecutor(LANES) as pool:
            problems = pool.map(
                lambda pair: [pair[0].survives(site) for site in pair[1]], zip(made, shares, strict=True)
            )
        wrong = [problem for each in problems for problem in each if problem]
        untried = sum(lane.untried for lane in made)
    assert wrong == []
    assert len(wanted) - untried > 0.7 * total, f"{len(wanted)} of {total} were passed, {untried} of these but once"


def test_what_is_left_aside_is_there() -> None:
    folder = Path(__file__).parents[2] / "vdifs/mount"
    assert [name for name in ASIDE if not (folder / f"{name.replace('.', '/')}.py").exists()] == []
