"""What `scripts/torture` finds: each kind of thing that goes wrong is planted, and must be told.

That the sections run at all is tried by `scripts/torture --short`.
"""

import errno
import json
import mmap
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

import tests.torture.__main__ as command_line
import vdifs
from tests.conftest import require_tool
from tests.support import oracle
from tests.support.builder import make, write_stamped
from tests.support.stamps import stamped
from tests.torture import fuzz
from tests.torture import memory_guard as guard
from tests.torture.chains import SIZE, Family, Models
from tests.torture.changes import Sighting, judge_sightings
from tests.torture.kill import states_of
from tests.torture.many_readers import Crowd, Going, Latencies
from tests.torture.mounting import eventually, is_running
from tests.torture.reading import Seen, read_some
from tests.torture.scratch import remove
from tests.torture.sections import SECTIONS
from tests.torture.states import PAGE, History, State, pages_of
from tests.torture.tally import Kind, Tally
from tests.torture.task import Section, Task, run_section
from tests.torture.trial import Trial
from tests.torture.workers import Try, try_seeds
from vdifs.errors import FormatError
from vdifs.output.image import Image

KIB, MIB = 1 << 10, 1 << 20


def task_in(folder: Path, count: int | None = None) -> Task:
    return Task(folder, 1, count, None, 1, lambda _: None)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A sound chain on trial, of which everything is tried."""
    for tool in "qemu-img", "qemu-io", "prlimit":
        require_tool(tool)
    chain, scratch = tmp_path / "chain", tmp_path / "scratch"
    chain.mkdir()
    scratch.mkdir()
    make(chain / "base.qcow2", MIB)
    write_stamped(chain / "base.qcow2", {0: 300 * KIB}, 1)
    make(chain / "top.qcow2", MIB, backing=("base.qcow2", "qcow2"))
    write_stamped(chain / "top.qcow2", {100 * KIB: 300 * KIB}, 2)
    return Trial(chain, chain / "top.qcow2", scratch, Everything())


class Everything(Random):
    """A generator with which no step is left out."""

    def random(self) -> float:
        return 0.4


def kinds(tally: Tally) -> set[Kind]:
    return {finding.kind for finding in tally.findings}


def test_a_sound_image_passes(trial: Trial) -> None:
    tally = trial.run()
    assert tally.findings == []
    assert tally.facts["compared with QEMU"] == 1
    assert tally.facts["synthetic files proved"] == 2
    assert tally.facts["commands"] == 1


def planted(monkeypatch: pytest.MonkeyPatch, instead: Callable[[Image, int, int], bytes]) -> None:
    monkeypatch.setattr(Image, "read_at", instead)


def one_wrong_byte(image: Image, offset: int, length: int) -> bytes:
    data = bytearray(image.view_at(offset, length))
    if offset <= 70_000 < offset + len(data):
        data[70_000 - offset] ^= 1
    return bytes(data)


def test_a_wrong_byte_is_found(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    planted(monkeypatch, one_wrong_byte)
    tally = trial.run()
    assert kinds(tally) == {Kind.WRONG}
    assert any("raw contents from 0x10000 on" in finding.what for finding in tally.findings)


def test_a_short_read_is_found(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    planted(monkeypatch, lambda image, offset, length: bytes(image.view_at(offset, length))[:-1])
    assert kinds(trial.run()) == {Kind.WRONG}


def test_an_exception_is_a_crash_with_its_place(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    def broken(image: Image, offset: int, length: int) -> bytes:
        raise IndexError("index 5 is out of bounds")

    planted(monkeypatch, broken)
    tally = trial.run()
    assert kinds(tally) == {Kind.CRASH}
    assert "IndexError: index 5 is out of bounds at test_torture.py" in tally.findings[0].what


def test_an_error_of_vdifs_is_none(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    def refused(image: Image, offset: int, length: int) -> bytes:
        raise FormatError("damaged")

    planted(monkeypatch, refused)
    tally = trial.run()
    assert tally.findings == []
    assert tally.facts["reads refused"]


def test_what_takes_too_long_is_a_hang(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    def slow(image: Image, offset: int, length: int) -> bytes:
        with suppress(Exception):
            time.sleep(60)
        return b""

    monkeypatch.setattr(guard, "MOST_SECONDS", 1.0)
    planted(monkeypatch, slow)
    assert kinds(trial.run()) == {Kind.HANG}


def test_memory_that_nobody_bounded_is_a_crash(monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    planted(monkeypatch, lambda *_: bytes(4 << 30))
    tally = trial.run()
    assert kinds(tally) == {Kind.CRASH}
    assert "MemoryError" in tally.findings[0].what


def test_more_memory_than_promised_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = []

    def greedy(_: Trial) -> Tally:
        kept.append(b"x" * (100 * MIB))
        return Tally()

    monkeypatch.setattr(fuzz, "chain_of", lambda *_: ({"image.qcow2": bytearray(512)}, ["planted"]))
    monkeypatch.setattr(Trial, "run", greedy)
    (tmp_path / "chain").mkdir()
    tally = fuzz.try_seed(tmp_path, None, guard.Memory(), 1, tmp_path)
    assert kinds(tally) == {Kind.MEMORY}
    assert re.match(r"\d+ MiB \[planted\]", tally.findings[0].what)


@pytest.mark.seeds(20, long=200)
def test_a_seed_gives_the_same_chain_again(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    for tool in "qemu-img", "qemu-io":
        require_tool(tool)
    templates = tmp_path_factory.getbasetemp() / "templates"
    templates.mkdir(exist_ok=True)
    files, history = fuzz.chain_of(seed, templates)
    again, history_again = fuzz.chain_of(seed, templates)
    assert files == again
    assert history == history_again


# Processes


def prepared(_folder: Path) -> Try:
    return attempt


def attempt(seed: int, _folder: Path) -> Tally:
    match seed:
        case 2:
            os._exit(7)
        case 4:
            os.kill(os.getpid(), signal.SIGTERM)
    return Tally(tried=seed)


def test_a_process_that_dies_is_a_crash_of_its_seed_alone(tmp_path: Path) -> None:
    results = {result.seed: result.tally for result in try_seeds(prepared, tmp_path, 2, iter(range(6)))}
    assert {seed for seed, tally in results.items() if tally.count(Kind.CRASH)} == {2, 4}
    assert "-15" in results[4].findings[0].what
    assert sorted(results) == list(range(6))
    assert [results[seed].tried for seed in (0, 1, 3, 5)] == [0, 1, 3, 5]


def member(number: int, going: Going) -> int:
    while going() or number == 3:
        time.sleep(0.01)
    return number


def test_a_process_that_does_not_answer_is_counted_and_ended() -> None:
    with Crowd(4, member) as crowd:
        pids = crowd.pids
        crowd.stop()
        eventually(lambda: not any(map(is_running, pids[:3])), 60, "the others have answered")
        results, silent = crowd.results(0.5)
    assert (results, silent) == ([0, 1, 2], 1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_percentile_is_off_by_a_twentieth_of_a_doubling_at_most() -> None:
    latencies, more = Latencies(), Latencies()
    for number in range(1, 1000):
        (latencies if number % 2 else more).add(number / 1000)
    latencies.merge(more)
    assert 0.98 < latencies.percentile(0.99) < 0.99 * 2 ** (1 / 10)


# Reading


def test_a_reader_finds_a_wrong_byte_a_wrong_length_and_an_error(tmp_path: Path) -> None:
    good, shown = tmp_path / "good", tmp_path / "shown"
    good.write_bytes(stamped(0, MIB, 1))
    with good.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as wanted:
        shown.write_bytes(wanted[:])
        read = partial(read_some, Random(1), shown, wanted, times=50)
        assert wrong_in(read) == ([], [])
        shown.write_bytes(bytes(MIB))
        assert wrong_in(read)[0]
        shown.write_bytes(wanted[: MIB // 2])
        assert "bytes long instead of" in wrong_in(read)[0][0]
        shown.unlink()
        assert wrong_in(read) == ([], ["shown: ENOENT"])
        seen = Seen()
        read(seen=seen, may_fail=frozenset({errno.ENOENT}))
        assert (seen.errors, seen.faults) == ([], 1)


def wrong_in(read: "partial[None]") -> tuple[list[str], list[str]]:
    seen = Seen()
    read(seen=seen)
    return seen.wrong, seen.errors


# What changes


def test_pages_tell_their_generation_and_whether_they_are_whole() -> None:
    data = stamped(PAGE, PAGE, 7) + bytes(PAGE) + stamped(3 * PAGE, PAGE, 8)
    assert pages_of(data, PAGE) == (7, 0, 8)
    assert pages_of(data, 2 * PAGE) == (-1, 0, -1)
    torn = stamped(0, 512, 1) + stamped(512, PAGE - 512, 2)
    assert pages_of(torn, 0) == (-1,)
    assert pages_of(b"x" * PAGE, 0) == (-1,)
    assert pages_of(bytes(PAGE - 1) + b"x", 0) == (-1,)


def history(*states: State) -> History:
    """Events that began at 10, 20 ... and took a second."""
    made = History()
    for number, state in enumerate(states):
        made.add(state, 10.0 * number, 10.0 * number + 1)
    return made


@pytest.mark.parametrize(
    ("pages", "opened", "closed", "why"),
    [
        ((1, 1, 1, 1), 5, 6, None),
        ((1, 1), 5, 6, None),
        ((2, 2, 2, 2), 15, 16, None),
        ((2, 2, 1, 1), 10.5, 16, None),
        ((1, 1, 2, 2), 10.5, 16, "of no single state"),
        ((2, 1, 2, 1), 10.5, 16, "of no single state"),
        ((2, 3, 2, 2), 20.5, 26, "of no single state"),
        ((3, 1, 1, 1), 20.5, 26, "of no single state"),
        ((-1, 1), 5, 6, "torn"),
        ((1, 1, 1, 1), 12.9, 14, None),
        ((1, 1, 1, 1), 14, 15, "had passed"),
        ((2, 2, 1, 1), 14, 15, "had passed"),
        ((3, 3, 3, 3), 12, 13, "came later"),
        ((1, 1, 1, 1), 45, 46, None),
    ],
)
def test_what_a_reader_saw_was_a_state_of_its_time(
    pages: tuple[int, ...], opened: float, closed: float, why: str | None
) -> None:
    found = history((1,) * 4, (2,) * 4, (3,) * 4, (1,) * 4).fault(pages, opened, closed, late=2.0)
    assert (found is None) if why is None else (found is not None and why in found)


def test_an_event_that_leaves_a_disk_as_it_was_does_not_end_its_state() -> None:
    same = history((1, 1), (1, 1), (1, 1), (2, 2))
    assert same.fault((1, 1), 25.0, 6.0, 2.0) is None, "seen from 6 to 25"
    assert same.fault((1, 1), 35.0, 6.0, 2.0) is not None


def test_a_whole_file_has_the_length_of_its_state() -> None:
    two = history((1, 1), (1, 1, 0, 0))
    assert two.fault((1, 1), 5, 6, 2.0, whole=True) is None
    assert two.fault((1, 1, 0, 0), 15, 16, 2.0, whole=True) is None
    assert two.fault((1, 1, 0), 15, 16, 2.0, whole=True) is not None
    assert two.fault((1, 1), 15, 16, 2.0, whole=True) is not None


def test_one_inode_number_for_two_states_is_found() -> None:
    first, second = (Sighting("f0", "raw", "top", 7, (generation,) * 2, False) for generation in (1, 2))
    histories = {("f0", "top"): history((1, 1), (2, 2))}
    apart = [{first: (5.0, 6.0)}, {second: (15.0, 16.0)}]
    assert judge_sightings(apart[:1], histories) == []
    assert ["shows two states" in what for what in judge_sightings(apart, histories)] == [True]


@pytest.mark.seeds(3, long=50)
def test_a_family_knows_what_its_events_make_of_it(tmp_path: Path, seed: int) -> None:
    """By the library, whose bytes are those of QEMU."""
    for tool in "qemu-img", "qemu-io":
        require_tool(tool)
    family = Family(tmp_path / "src/f0", Models.made(tmp_path / "models"), tmp_path / "fresh", Random(seed))
    family.begin()
    for _ in range(12):
        event = family.happen()
        for name in "base", "top":
            raw = oracle.materialize(family.folder / f"{name}.qcow2", tmp_path / "raw")
            assert pages_of(raw.read_bytes(), 0) == family.state(name), event.what
            with vdifs.open(family.folder / f"{name}.qcow2", view="raw") as image:
                assert pages_of(image.read_at(0, SIZE), 0) == family.state(name)[: SIZE // PAGE]


def test_a_changed_source_is_told(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"before")
    before = states_of(tmp_path)
    assert states_of(tmp_path) == before
    (tmp_path / "image").write_bytes(b"after!")
    assert states_of(tmp_path) != before


# The run as a whole


def works(task: Task) -> None:
    while task.going():
        task.tally.tried += 1


def finds(task: Task) -> None:
    works(task)
    task.found(Kind.WRONG, "a planted byte")


def breaks(task: Task) -> None:
    raise RuntimeError("the section itself is broken")


def section(key: str, run: Callable[[Task], None]) -> Section:
    return Section(key, "something", "times", run, 1.0, long=5)


def test_a_section_that_fails_or_tries_nothing_has_not_passed(tmp_path: Path) -> None:
    assert run_section(section("works", works), task_in(tmp_path, 3)).findings == []
    ended = run_section(section("breaks", breaks), task_in(tmp_path, 3))
    assert "RuntimeError: the section itself is broken" in ended.findings[0].what
    idle = run_section(section("idle", lambda _: None), task_in(tmp_path, 3))
    assert [finding.what for finding in idle.findings] == ["nothing was tried"]


def run_command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> Result:
    monkeypatch.setattr(
        command_line, "SECTIONS", [section("works", works), section("finds", finds), section("breaks", breaks)]
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return CliRunner().invoke(command_line.main, [*arguments, "--workdir", str(folder)])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_the_status_tells_whether_anything_went_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = run_command(monkeypatch, tmp_path, "works", "--count", "3", "--seed", "17")
    assert good.exit_code == 0
    assert "seed 17" in good.stderr
    assert "3 times" in good.stdout
    bad = run_command(monkeypatch, tmp_path, "works", "finds", "--count", "3")
    assert bad.exit_code == 1
    assert "wrong bytes: a planted byte" in bad.stdout
    assert list(tmp_path.iterdir()) == []


def test_as_json_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = run_command(monkeypatch, tmp_path, "--long", "--output", "json")
    assert done.exit_code == 1
    rows = {row["section"]: row for row in json.loads(done.stdout)["sections"]}
    assert [rows[key]["tried"] for key in ("works", "finds", "breaks")] == [5, 5, 0]
    assert rows["finds"]["findings"] == [{"kind": "wrong bytes", "what": "a planted byte"}]
    assert rows["works"]["findings"] == []
    assert rows["breaks"]["wrong"]["broken promise"] == 1


def test_finished_sections_are_passed_over_when_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    work = tmp_path / "work"
    work.mkdir()
    run_command(monkeypatch, work, "finds", "--count", "3", "--resume", str(kept))
    again = run_command(monkeypatch, work, "works", "finds", "--count", "4", "--resume", str(kept))
    assert again.exit_code == 1
    assert "3 times" in again.stdout
    assert "4 times" in again.stdout


@pytest.mark.parametrize("arguments", [["nothing"], ["--long", "--short"], ["--minutes", "1", "--count", "1"]])
def test_wrong_usage_is_status_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]) -> None:
    assert run_command(monkeypatch, tmp_path, *arguments).exit_code == 2


def test_the_time_of_all_sections_together_is_what_was_asked_for() -> None:
    sections = SECTIONS
    seconds = [command_line.limits_of(each, sections, 5.0, long=False, count=None)[1] or 0.0 for each in sections]
    assert sum(seconds) < 5 * 60
    assert all(each.long or each.long_seconds for each in sections)


def test_a_folder_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/file").write_text("x")
    remove(folder)
    remove(folder)
    assert not folder.exists()
