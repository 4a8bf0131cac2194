"""Histories: images written, snapshotted, resized, rebased and committed in any order; QEMU says what that made.

A state machine of hypothesis does to a small family of images what an administrator could do with qemu-img and qemu-io.
Any step may change what stands on the image; that is not its concern, for at the end every image, every snapshot and
every pair is compared with what QEMU reads from the very same files.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support import oracle, qcow2
from tests.support.builder import make
from tests.support.command_line import run_vdifs
from tests.support.proofs import prove_delta, prove_full
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB, SECTOR, sectors_up

MOST_IMAGES = 6
MOST_SNAPSHOTS = 4
STEPS = 20

Created = tuple[int, str]  # cluster bits, and what is special

ANY = st.integers(0, 59)  # of any number of images or snapshots up to 6, each as likely
PLACE = st.integers(0, 8 * MIB // SECTOR)
LENGTH = st.sampled_from([1, 2, 7, 100]) | st.integers(1, 512)  # in sectors
CLUSTER_BITS = st.integers(9, 21)
CREATED = st.tuples(CLUSTER_BITS, st.sampled_from(["v3", "v2", "zstd", "extended_l2"]))
SIZE = st.integers(1, 4 * MIB // SECTOR).map(lambda n: n * SECTOR) | st.sampled_from([64 * KIB, MIB, SECTOR])


@dataclass(slots=True)
class Image:
    """One image of the family."""

    path: Path
    format: str
    backing: "Image | None" = None
    version: int = 3
    cluster_size: int = 64 * KIB
    snapshots: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of guest disk, whole sectors."""
        if self.format == "raw":
            return sectors_up(self.path.stat().st_size)
        with self.path.open("rb") as file:
            return qcow2.value(file.read(32), "size") // SECTOR * SECTOR

    def ancestors(self) -> Iterator["Image"]:
        """Yield the backing files, nearest first."""
        image = self.backing
        while image is not None:
            yield image
            image = image.backing


class History(RuleBasedStateMachine):
    """The family, and what happens to it."""

    whole_histories = 0
    """How many had all their steps."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Path(tempfile.mkdtemp(prefix="history-"))
        self.folder = self.room / "source"
        self.folder.mkdir()
        self.images: list[Image] = []
        self.recipe: list[str] = []
        self.count = 0
        self.steps = 0
        self.compressed = False

    # What can happen

    @initialize(size=SIZE, raw=st.booleans(), odd=st.booleans(), first=CREATED, second=CREATED, third=CREATED)
    def begin(self, size: int, raw: bool, odd: bool, first: Created, second: Created, third: Created) -> None:
        """Three images, one on the other; the base is raw, perhaps of odd length, or qcow2 as the others."""
        if raw:
            path = self.folder / "0.raw"
            path.write_bytes(stamped(0, size + (317 if odd else 0), 1))
            self.images.append(Image(path, "raw"))
        else:
            self.create(size, first, None)
        for created in (second, third):
            self.create(self.images[-1].size, created, self.images[-1])

    @precondition(lambda self: len(self.images) < MOST_IMAGES)
    @rule(on=ANY, size=st.none() | SIZE, created=CREATED)
    def new_overlay(self, on: int, size: int | None, created: Created) -> None:
        below = self.chosen(on)
        self.create(below.size if size is None else size, created, below)

    @rule(on=ANY, place=PLACE, length=LENGTH)
    def write(self, on: int, place: int, length: int) -> None:
        self.write_stamps(self.chosen(on), place, length)

    @rule(on=ANY, place=PLACE, length=LENGTH, unmap=st.booleans())
    def write_zeros(self, on: int, place: int, length: int, unmap: bool) -> None:
        self.io(self.chosen(on), "write -z -u" if unmap else "write -z", place, length)

    @rule(on=ANY, place=PLACE, length=st.integers(1, 8192))
    def discard(self, on: int, place: int, length: int) -> None:
        self.io(self.chosen(on), "discard", place, length)

    @precondition(lambda self: self.qcow2_images())
    @rule(on=ANY, place=PLACE, clusters=st.integers(1, 3))
    def write_compressed(self, on: int, place: int, clusters: int) -> None:
        image = self.chosen_qcow2(on)
        start = place * SECTOR % image.size // image.cluster_size * image.cluster_size
        length = min(clusters * image.cluster_size, image.size - start)
        self.compressed = True
        self.write_stamps(image, start // SECTOR, length // SECTOR, "-c", may_refuse=True)  # over other data

    @precondition(lambda self: self.qcow2_images() and sum(len(i.snapshots) for i in self.images) < MOST_SNAPSHOTS)
    @rule(on=ANY)
    def take_snapshot(self, on: int) -> None:
        image = self.chosen_qcow2(on)
        self.count += 1
        image.snapshots.append(f"s{self.count}")
        self.img("snapshot", "-c", image.snapshots[-1], image.path)

    @precondition(lambda self: any(image.snapshots for image in self.images))
    @rule(which=ANY)
    def apply_snapshot(self, which: int) -> None:
        image, name = self.chosen_snapshot(which)
        self.img("snapshot", "-a", name, image.path, may_refuse=image.version == 2)  # which QEMU does not resize then

    @precondition(lambda self: any(image.snapshots for image in self.images))
    @rule(which=ANY)
    def delete_snapshot(self, which: int) -> None:
        image, name = self.chosen_snapshot(which)
        self.img("snapshot", "-d", name, image.path)
        image.snapshots.remove(name)

    @precondition(lambda self: self.qcow2_images())
    @rule(on=ANY, size=SIZE)
    def resize(self, on: int, size: int) -> None:
        """QEMU refuses some: version 2 with snapshots, or longer than now over a backing file that is longer still."""
        image = self.chosen_qcow2(on)
        self.img("resize", "-q", "--shrink", "-f", "qcow2", image.path, str(size), may_refuse=True)

    @precondition(lambda self: self.qcow2_images())
    @rule(on=ANY, onto=ANY, unsafe=st.booleans())
    def rebase(self, on: int, onto: int, unsafe: bool) -> None:
        """Move an image onto another that does not stand on it, or onto none."""
        image = self.chosen_qcow2(on)
        below = [None, *(other for other in self.images if other is not image and image not in other.ancestors())]
        chosen = below[onto % len(below)]
        over = ["-b", chosen.path.name, "-F", chosen.format] if chosen else ["-b", ""]
        if self.img("rebase", "-f", "qcow2", *["-u"] * unsafe, *over, image.path, may_refuse=not unsafe):
            image.backing = chosen

    @precondition(lambda self: any(image.backing for image in self.images))
    @rule(on=ANY, empty=st.booleans(), down_to=ANY)
    def commit(self, on: int, empty: bool, down_to: int) -> None:
        """Write an image into its backing file, or into one further down."""
        overlays = [image for image in self.images if image.backing]
        image = overlays[-1 - on % len(overlays)]
        below = list(image.ancestors())
        into: list[str | Path] = ["-b", below[down_to % len(below)].path] if down_to % 3 == 0 else []
        self.img("commit", "-q", *([] if empty or into else ["-d"]), *into, image.path, may_refuse=True)

    @precondition(lambda self: len(self.images) < MOST_IMAGES)
    @rule(of=ANY, bits=CLUSTER_BITS, method=st.sampled_from(["zlib", "zstd"]))
    def compress(self, of: int, bits: int, method: str) -> None:
        source = self.chosen(of)
        image = Image(self.folder / f"{len(self.images)}.qcow2", "qcow2", cluster_size=1 << bits)
        options = f"cluster_size={1 << bits},compression_type={method}"
        self.compressed = True
        self.img("convert", "-c", "-f", source.format, "-O", "qcow2", "-o", options, source.path, image.path)
        self.images.append(image)

    # How it is done

    def create(self, size: int, created: Created, below: Image | None) -> None:
        bits, kind = created
        if kind == "extended_l2":
            bits = max(bits, 14)
        image = Image(self.folder / f"{len(self.images)}.qcow2", "qcow2", below, 2 if kind == "v2" else 3, 1 << bits)
        options: dict[str, object] = {"cluster_size": 1 << bits, "compat": "0.10" if kind == "v2" else "1.1"}
        options |= {"zstd": {"compression_type": "zstd"}, "extended_l2": {"extended_l2": "on"}}.get(kind, {})
        over = (below.path.name, below.format) if below else None
        self.recipe.append(f"create {image.path.name} {size}: {options}, backing {over}")
        make(image.path, size, backing=over, **options)
        self.images.append(image)

    def chosen(self, number: int) -> Image:
        """Choose an image, the newest as often as all others together."""
        return self.images[-1] if number % 2 else self.images[number // 2 % len(self.images)]

    def qcow2_images(self) -> list[Image]:
        return [image for image in self.images if image.format == "qcow2"]

    def chosen_qcow2(self, number: int) -> Image:
        images = self.qcow2_images()
        return images[-1 - number % len(images)]

    def chosen_snapshot(self, number: int) -> tuple[Image, str]:
        snapshots = [(image, name) for image in self.images for name in image.snapshots]
        return snapshots[number % len(snapshots)]

    def write_stamps(
        self, image: Image, place: int, length: int, option: str = "", *, may_refuse: bool = False
    ) -> None:
        self.count += 1
        start, length = self.region(image, place, length)
        stamps = self.room / "stamps"
        stamps.write_bytes(stamped(start, length, self.count))
        self.io(image, f"write {option} -s {stamps}", place, length // SECTOR, may_refuse=may_refuse)

    def io(self, image: Image, words: str, place: int, length: int, *, may_refuse: bool = False) -> None:
        start, count = self.region(image, place, length)
        self.recipe.append(f"qemu-io {image.path.name}: {words} {start} {count}")
        try:
            oracle.qemu_io(image.path, [f"{words} {start} {count}"], format=image.format)
        except oracle.OracleError:
            if not may_refuse:
                raise
            self.recipe[-1] += "   # refused"

    def region(self, image: Image, place: int, length: int) -> tuple[int, int]:
        """Return start and length in bytes of a range of the disk."""
        start = place * SECTOR % image.size
        return start, min(length * SECTOR, image.size - start)

    def img(self, *words: str | Path, may_refuse: bool = False) -> bool:
        """Run qemu-img; return whether it did what it was asked for."""
        self.recipe.append("qemu-img " + " ".join(word if isinstance(word, str) else word.name for word in words))
        try:
            oracle.qemu_img(*words, cwd=self.folder)
        except oracle.OracleError:
            if not may_refuse:
                raise
            self.recipe[-1] += "   # refused"
            return False
        return True

    # What must hold afterwards

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1

    def teardown(self) -> None:
        History.whole_histories += self.steps >= STEPS
        try:
            for image in self.images:
                self.prove_image(image)
                for name in image.snapshots:
                    self.prove_snapshot(image, name)
            for folder in [self.folder] if self.images else []:
                assert run_vdifs("check", folder).status == 0
        except BaseException as error:
            error.add_note("\n".join(self.recipe))
            raise
        finally:
            shutil.rmtree(self.room)

    def prove_image(self, image: Image) -> None:
        """Prove its files; those with packed clusters also with all of them expanded."""
        if self.compressed:
            words = ("--packed", "expand")
            prove_full(image.path, self.new("full.qcow2"), like=image.path, like_format=image.format, words=words)
            for base in image.ancestors():
                prove_delta(image.path, base.path, base.path, self.new("delta.qcow2"), like=image.path, words=words)
        prove_full(image.path, self.new("full.qcow2"), like=image.path, like_format=image.format)
        if image.format == "qcow2":
            self.prove_deltas(str(image.path), image, image.path)

    def prove_snapshot(self, image: Image, name: str) -> None:
        back = self.folder / "back.qcow2"
        shutil.copy(image.path, back)
        try:
            oracle.qemu_img("snapshot", "-a", name, back)
        except oracle.OracleError:
            assert image.version == 2, "QEMU goes back to another size in version 3"
            return
        else:
            prove_full(f"{image.path}@{name}", self.new("full.qcow2"), like=back)
            self.prove_deltas(f"{image.path}@{name}", image, back)
        finally:
            back.unlink()

    def prove_deltas(self, name: str, image: Image, like: Path) -> None:
        """Prove the delta against each ancestor, and that against itself, on the full image beside."""
        for base in image.ancestors():
            prove_delta(name, base.path, base.path, self.new("delta.qcow2"), like=like)
        prove_delta(name, name, self.room / "full.qcow2", self.new("delta.qcow2"), like=like)

    def new(self, name: str) -> Path:
        """Return the path of a file that does not exist."""
        (self.room / name).unlink(missing_ok=True)
        return self.room / name


def run_histories(count: int, *, shrink: bool) -> None:
    """Run histories of 20 steps. shrink: look for the shortest one that fails, which takes minutes."""
    phases = [phase for phase in hypothesis.Phase if shrink or phase is not hypothesis.Phase.shrink]
    settings = hypothesis.settings(max_examples=count, stateful_step_count=STEPS, phases=phases)
    run_state_machine_as_test(History, settings=settings)


@pytest.mark.timeout(1800)
def test_whatever_happened_to_images_they_are_what_qemu_reads() -> None:
    run_histories(15, shrink=False)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_whatever_happened_in_two_hundred_histories_images_are_what_qemu_reads() -> None:
    """Of those that hypothesis tries, a third is shorter."""
    History.whole_histories = 0
    run_histories(400, shrink=True)
    assert History.whole_histories >= 200
