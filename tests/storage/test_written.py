"""What is a write and what is not, whatever the time stamps say (docs/specification.md 5.2 and 5.3)."""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import vdifs
from tests.conftest import require_tool
from tests.storage.watching import (
    MAPPING,
    MIB,
    READS_FIRST,
    is_noticed,
    is_unchanged,
    link,
    program,
    set_back,
    tell,
    watched,
    write,
    write_by_a_mapping_alone,
)
from tests.support.age import grow_old
from tests.support.stamps import difference, stamped
from vdifs.errors import InUseError, SourceChangedError
from vdifs.linux import inode_lock
from vdifs.linux import inotify as watches
from vdifs.linux import leases as lease
from vdifs.linux.inotify import Watches
from vdifs.linux.leases import is_open_for_writing
from vdifs.storage.fingerprint import Fingerprint
from vdifs.storage.host_file import HostFile
from vdifs.storage.witness import Finding, Witness


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(stamped(0, MIB, 1))
    grow_old()
    return path


def write_mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:4096] = stamped(0, 4096, 2)


def punch(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file:
        assert libc.fallocate64(file.fileno(), 3, ctypes.c_int64(0), ctypes.c_int64(4096)) == 0


def splice(path: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, stamped(0, 4096, 2))
    with path.open("r+b") as file:
        assert os.splice(ours, file.fileno(), 4096) == 4096
    os.close(ours)
    os.close(theirs)


def copy_range(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(stamped(0, 4096, 2))
    with other.open("rb") as source, path.open("r+b") as file:
        assert os.copy_file_range(source.fileno(), file.fileno(), 4096) == 4096


def truncate_and_grow(path: Path) -> None:
    os.truncate(path, 0)
    os.truncate(path, MIB)


WRITES: list[Callable[[Path], None]] = [
    write, write_mapped, write_by_a_mapping_alone, punch, splice, copy_range, truncate_and_grow,
]  # fmt: skip


def chown(path: Path) -> None:
    os.chown(path, 1234 if os.geteuid() == 0 else -1, os.getegid())


def set_attribute(path: Path) -> None:
    os.setxattr(path, "user.vdifs.test", b"%d" % time.monotonic_ns())


def rename(path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    aside.rename(path)


def link_and_unlink(path: Path) -> None:
    link(path)
    path.with_name("link").unlink()


def touch_without_opening(path: Path) -> None:
    os.utime(path)


METADATA: list[Callable[[Path], None]] = [
    chown, lambda path: path.chmod(0o640), set_attribute, rename, link, link_and_unlink, touch_without_opening,
    lambda path: path.unlink(),
]  # fmt: skip
METADATA_IDS = ["chown", "chmod", "setxattr", "rename", "link", "link and unlink", "utimes", "unlink"]


@pytest.mark.parametrize("change", METADATA, ids=METADATA_IDS)
def test_a_change_of_metadata_is_none(path: Path, change: Callable[[Path], None]) -> None:
    with watched(path) as file:
        before = file.fingerprint
        for _ in range(2):
            if path.exists():
                change(path) if not path.with_name("link").exists() else path.chmod(0o600)
            file.check_unchanged()
            grow_old()
            file.check_unchanged()
        assert file.fingerprint != before
        assert file.fingerprint.ctime_ns == os.fstat(file.fd).st_ctime_ns


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("disguise", [link, lambda path: path.chmod(0o640), rename, lambda path: path.unlink()],
                         ids=["link", "chmod", "rename", "unlink"])  # fmt: skip
def test_a_write_is_a_change_whatever_the_time_stamps_say(
    path: Path, write: Callable[[Path], None], disguise: Callable[[Path], None]
) -> None:
    assert is_noticed(path, write, disguise)


def test_a_program_that_may_have_written_counts_as_one_that_has(path: Path) -> None:
    """Asynchronous writes and those through mappings have no event of their own."""
    with watched(path) as file:
        path.open("r+b").close()
        file.check_unchanged()
        path.chmod(0o640)
        assert not is_unchanged(file)


def test_what_becomes_young_is_asked_about_until_it_is_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(path) as file:
        path.chmod(0o640)
        monkeypatch.setattr("vdifs.storage.fingerprint.RACY_NS", 60_000_000_000)
        file.check_unchanged()
        descriptor = os.open(path, os.O_RDWR)
        now = os.fstat(descriptor)
        monkeypatch.setattr(os, "fstat", lambda _: now)  # as if the write were in the same tick
        os.pwrite(descriptor, b"x", 0)
        os.close(descriptor)
        assert not is_unchanged(file)


def test_what_is_old_costs_one_system_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(path) as file:
        path.chmod(0o640)
        grow_old()
        file.check_unchanged()

        def asked(_: object) -> None:
            raise AssertionError("the witness was asked")

        monkeypatch.setattr("vdifs.storage.witness.Witness.finding", asked)
        file.check_unchanged()


def test_an_image_that_a_mapping_writes_is_refused(path: Path) -> None:
    """As a virtual NVDIMM: its pages are dirty already, so that no write moves a time stamp."""
    with program(MAPPING, path) as writer:
        grow_old()
        before = path.stat()
        with pytest.raises(InUseError, match=r"writing it, which has it open for that .*--live allow") as caught:
            vdifs.open(path, view="raw")
        assert caught.value.errno == errno.EBUSY
        tell(writer)
        assert path.stat() == before, "the play does not work: this is what the test is about"
    with vdifs.open(path, view="raw") as image:
        middle = MIB // 2
        assert difference(image.read_at(middle, middle), stamped(middle, middle, 2), middle) is None


def test_an_image_in_the_middle_of_one_long_write_is_refused(tmp_path: Path) -> None:
    """The time stamps move when write(2) begins; it may go on for minutes."""
    path, length = tmp_path / "disk.raw", 1 << 30
    data = memoryview(stamped(0, MIB, 2) * (length // MIB))
    with path.open("wb") as file:
        file.truncate(length)
    begun = threading.Event()
    descriptor = os.open(path, os.O_WRONLY)

    def write_all() -> None:
        begun.set()
        os.pwrite(descriptor, data, 0)
        os.close(descriptor)

    thread = threading.Thread(target=write_all)
    thread.start()
    try:
        begun.wait()
        answers = []
        while thread.is_alive():
            time.sleep(0.03)
            try:
                vdifs.open(path, view="raw").close()
            except InUseError as error:
                answers.append(str(error))
            else:
                assert not thread.is_alive()
        assert answers, "the write was over in a moment: the test tries nothing"
        assert any("has it open for that" in answer for answer in answers)
    finally:
        thread.join()


def test_a_base_that_is_open_for_writing_refuses_what_is_above_it(path: Path) -> None:
    require_tool("qemu-img")
    top = path.with_name("top.qcow2")
    subprocess.run(
        ["qemu-img", "create", "-qf", "qcow2", "-b", path.name, "-F", "raw", top], check=True, cwd=path.parent
    )
    with path.open("r+b"), pytest.raises(InUseError, match=r"disk\.raw: .*writing it"):
        vdifs.open(top)
    with top.open("r+b"):
        vdifs.open(path, view="raw").close()
    vdifs.open(top).close()


def test_live_allow_asks_no_one(path: Path) -> None:
    with path.open("r+b", buffering=0) as writer, vdifs.open(path, view="raw", live="allow") as image:
        assert image.read_at(0, 512) == stamped(0, 512, 1)
        writer.write(stamped(0, 512, 2))
        with pytest.raises(SourceChangedError):
            image.read_at(0, 512)


def test_a_writer_that_comes_later_does_not_disturb_a_reader_before_it_writes(path: Path) -> None:
    with vdifs.open(path, view="raw") as image:
        with path.open("r+b") as writer:
            assert image.read_at(0, 512) == stamped(0, 512, 1)
            with pytest.raises(InUseError):
                vdifs.open(path, view="raw")
            writer.write(b"x")
        with pytest.raises(SourceChangedError):
            image.read_at(0, 512)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A file on a tmpfs, where mappings write without moving time stamps."""
    folder = Path("/dev/shm", f"vdifs-test-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no tmpfs here: {error}")
    path = folder / "disk.raw"
    path.write_bytes(stamped(0, MIB, 1))
    grow_old()
    yield path
    shutil.rmtree(folder)


def test_on_a_tmpfs_a_mapping_that_writes_is_met(in_memory: Path) -> None:
    with vdifs.open(in_memory, view="raw") as image:
        assert image.read_at(0, 512) == stamped(0, 512, 1)
        with program(READS_FIRST, in_memory) as writer:
            tell(writer)
            for _ in range(2):
                with pytest.raises(SourceChangedError):
                    image.read_at(MIB // 2, 512)


def test_on_a_tmpfs_a_mapping_that_wrote_and_has_ended_is_met(in_memory: Path) -> None:
    with vdifs.open(in_memory, view="raw") as image:
        before = in_memory.stat()
        with program(READS_FIRST, in_memory) as writer:
            tell(writer)
        assert in_memory.stat() == before, "the play does not work"
        with pytest.raises(SourceChangedError):
            image.read_at(MIB // 2, 512)


@pytest.mark.parametrize("place", ["path", "in_memory"])
def test_a_time_that_is_set_is_no_change_though_it_is_told_late(
    request: pytest.FixtureRequest, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is busy may keep the event for longer than any number of looks takes: it is waited for.

    In memory there is no disk to wait for, and the kernel does not tell when it is over: it takes a moment.
    """
    path: Path = request.getfixturevalue(place)
    waited = list[None]()
    drain, wait = Watches.drain, inode_lock.wait_for_changes

    def drain_late(self: Watches) -> None:
        if waited:
            drain(self)

    def wait_and_tell(fd: int) -> bool:
        waited.append(None)
        return wait(fd)

    with watched(path) as file:
        os.utime(path)
        monkeypatch.setattr(Watches, "drain", drain_late)
        monkeypatch.setattr("vdifs.storage.witness.wait_for_changes", wait_and_tell, raising=False)
        file.check_unchanged()
        assert len(waited) == 1


def without_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for another user's files."""
    monkeypatch.setattr("vdifs.storage.witness.is_open_for_writing", lambda _: None)


@pytest.mark.parametrize("change", METADATA, ids=METADATA_IDS)
def test_where_no_lease_can_be_had_mtime_must_stand(
    path: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_leases(monkeypatch)
    with watched(path) as file:
        change(path)
        assert is_unchanged(file) == (change is not touch_without_opening)


@pytest.mark.parametrize("write", WRITES)
def test_where_no_lease_can_be_had_a_write_that_has_ended_is_met(
    path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_leases(monkeypatch)
    with watched(path) as file:
        before = path.stat()
        write(path)
        set_back(path, before)
        link(path)
        assert not is_unchanged(file)


@pytest.mark.parametrize("missing", ["instance", "watch"])
def test_where_inotify_cannot_be_had_the_link_count_decides(
    path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches.watches, "add", lambda _: None) if missing == "watch" else monkeypatch.setattr(
        watches.watches, "start", lambda: False
    )
    with watched(path) as file:
        link(path)
        file.check_unchanged()
        path.chmod(0o600)
        assert not is_unchanged(file)


def test_more_events_than_the_kernel_keeps_count_as_a_write(path: Path, tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip(f"{most} events are queued here")
    other = tmp_path / "other"
    other.touch()
    grow_old()
    with watched(path) as file, watched(other):
        for number in range(most // 2 + 10):
            path.chmod(0o600 + 0o40 * (number % 2))
            other.chmod(0o600)
        assert not is_unchanged(file)


def test_the_last_of_many_names_may_go(path: Path) -> None:
    """The kernel watches a file no more that has no name, even if it is open."""
    link(path)
    with watched(path) as file:
        path.unlink()
        path.with_name("link").unlink()
        file.check_unchanged()


def test_an_inode_is_watched_as_long_as_one_has_it_open(path: Path) -> None:
    with watched(path) as one:
        with watched(path):
            pass
        before = path.stat()
        write(path)
        set_back(path, before)
        assert not is_unchanged(one)


def test_who_opens_a_file_that_is_watched_knows_what_it_was_before(path: Path) -> None:
    """A catalog may have seen the file before the last change of its metadata."""
    with watched(path) as one:
        seen = one.fingerprint
        path.chmod(0o640)
        with watched(path) as two:
            assert two.was(seen, settled=True)
            assert two.fingerprint.ctime_ns > seen.ctime_ns
        write(path)
        grow_old()
        with watched(path) as three:
            assert not three.was(seen, settled=True)


def test_a_file_that_was_open_until_a_moment_ago_is_known_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(watches, "time", SimpleNamespace(monotonic=lambda: now))  # the moment lasts on any machine
    with watched(path) as one:
        seen = one.fingerprint
        one.linger()
    path.chmod(0o640)
    with watched(path) as two:
        assert two.was(seen, settled=True)
        assert two.fingerprint != seen


@pytest.mark.parametrize("watching", [False, True], ids=["not watched", "no watch to be had"])
def test_what_is_not_watched_does_not_linger(path: Path, monkeypatch: pytest.MonkeyPatch, watching: bool) -> None:
    monkeypatch.setattr(watches.watches, "start", lambda: False)
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    if watching:
        file.watch()
    lingering = len(watches.watches._lingering)
    file.linger()
    file.close()
    assert len(watches.watches._lingering) == lingering


@pytest.mark.parametrize(("changes", "unchanged"), [(1, True), (5, True), (1000, False)])
def test_metadata_that_change_while_they_are_asked_about_are_asked_about_again_and_not_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch, changes: int, unchanged: bool
) -> None:
    left, finding = changes, Witness.finding

    def found_and_changed(witness: Witness) -> Finding:
        nonlocal left
        found = finding(witness)
        if left:
            left -= 1
            path.chmod(path.stat().st_mode ^ 0o040)
            grow_old()
        return found

    with watched(path) as file:
        path.chmod(0o640)
        monkeypatch.setattr(Witness, "finding", found_and_changed)
        assert is_unchanged(file) == unchanged
        assert changes - left <= 10
        if unchanged:
            assert file.fingerprint == Fingerprint.of(path.stat())


def test_a_process_just_forked_watches_nothing(path: Path) -> None:
    with watched(path) as file:
        path.chmod(0o640)
        child = os.fork()
        if not child:
            os._exit(is_unchanged(file))  # it cannot tell
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file.check_unchanged()


def test_a_file_that_is_closed_leaves_no_watch(path: Path) -> None:
    made = Watches()
    descriptor = os.open(path, os.O_RDONLY)
    first, second = made.add(descriptor), made.add(descriptor)
    assert first is not None
    assert second is first
    info = Path(f"/proc/self/fdinfo/{made._fd}")
    assert info.read_text().count("inotify wd:") == 1
    made.remove(first)
    assert info.read_text().count("inotify wd:") == 1
    made.remove(second)
    assert info.read_text().count("inotify wd:") == 0
    os.close(descriptor)
    made.start_anew()


def test_a_lease_is_asked_for_and_given_back(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    assert is_open_for_writing(descriptor) is False
    assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    assert is_open_for_writing(descriptor) is True
    mapped = mmap.mmap(writer, 0)
    os.close(writer)
    assert is_open_for_writing(descriptor) is True
    mapped.close()
    assert is_open_for_writing(descriptor) is False
    os.close(descriptor)
    assert is_open_for_writing(os.open("/dev/null", os.O_RDONLY)) is None


OPENING = """
import os, sys
refused, count = 0, int(sys.argv[2])
print("ready", flush=True)
for number in range(count):
    try:
        os.close(os.open(sys.argv[1], os.O_RDWR | (os.O_NONBLOCK if number % 2 else 0)))
    except BlockingIOError:
        assert number % 2, "one that waits is refused"
        refused += 1
print(refused, flush=True)
"""


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_program_that_opens_for_writing_meanwhile_is_not_disturbed(
    path: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    """No signal ends the process that asks. Openers that wait are let in, others too while no lease stands."""
    descriptor = os.open(path, os.O_RDONLY)
    with program(OPENING, path, str(count)) as opener:
        asked = 0
        while opener.poll() is None:
            is_open_for_writing(descriptor)
            asked += 1
        assert opener.stdout is not None
        refused = int(opener.stdout.readline())
        assert opener.returncode == 0
    assert asked > 100
    record_property("openings", f"{count}, asked {asked} times, {refused} refused")
    assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    for _ in range(100):
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    os.close(descriptor)


def test_no_thread_of_the_process_runs_while_a_lease_stands(path: Path) -> None:
    """It would stand for as long as others are busy, and they may ask about the same descriptor."""
    descriptor = os.open(path, os.O_RDONLY)
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            is_open_for_writing(descriptor)

    look = ctypes.PyDLL(None).fcntl  # which keeps the interpreter's lock, so that it sees what other threads can see
    asking = threading.Thread(target=ask)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        asking.start()
        seen = {look(descriptor, fcntl.F_GETLEASE) for _ in range(100_000)}
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        asking.join()
        os.close(descriptor)
    assert seen == {fcntl.F_UNLCK}


def test_a_lease_stands_for_no_longer_than_an_opening_takes(path: Path) -> None:
    """In the middle, whatever the machine: so who opens meets one only where as much is asked as is opened."""
    descriptor = os.open(path, os.O_RDONLY)
    stood, taken = [], []
    for _ in range(2000):
        begun = time.perf_counter_ns()
        os.close(os.open(path, os.O_RDWR))
        taken.append(time.perf_counter_ns() - begun)
        steps = (
            partial(lease._ask, descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK),
            partial(time.perf_counter_ns),
            partial(lease._give_back, descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK),
            partial(time.perf_counter_ns),
        )
        had, since, given_back, until = map(partial.__call__, steps)
        assert had == given_back == 0
        stood.append(until - since)
    os.close(descriptor)
    assert sorted(stood)[1000] <= sorted(taken)[1000]


def test_the_signal_of_a_lease_that_is_broken_is_one_that_ends_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program opens the file for writing between the two calls; more than once, as the kernel forgets the signal."""
    got: list[int] = []
    refused = 0
    ask = lease._ask

    def interrupted(fd: int, command: int, argument: int) -> int:
        nonlocal refused
        result: int = ask(fd, command, argument)
        if (command, argument) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_RDWR | os.O_NONBLOCK)
            refused += 1
        return result

    monkeypatch.setattr(lease, "_ask", interrupted)
    before = {number: signal.signal(number, lambda n, _: got.append(n)) for number in (signal.SIGURG, signal.SIGIO)}
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for number in range(1, 4):
            assert is_open_for_writing(descriptor) is False
            assert refused == number
            for _ in range(1000):
                if len(got) == number:
                    break
                time.sleep(0.01)
    finally:
        os.close(descriptor)
        for each, handler in before.items():
            signal.signal(each, handler)
    assert got == [signal.SIGURG] * 3


QUIET: dict[str, Callable[[Path], None]] = {
    "chmod": lambda path: path.chmod(0o640),
    "link": lambda path: path.with_name(f"link{time.monotonic_ns()}").hardlink_to(path),
    "rename": rename,
    "setxattr": set_attribute,
    "utimes": touch_without_opening,
    "set back": lambda path: os.utime(path, ns=(0, 1_000_000_000)),
}
LOUD: dict[str, Callable[[Path], None]] = {
    "write": lambda path: write(path, offset=MIB // 2),
    "write mapped": write_mapped,
    "write by a mapping alone": write_by_a_mapping_alone,
    "copy range": copy_range,
}


@pytest.mark.seeds(60, long=1_000)
def test_random_sequences_never_mix_two_states(path: Path, rng: random.Random) -> None:
    """Each read is all of the state that was opened, or an error; and no error where only metadata have changed."""
    written = False
    with vdifs.open(path, view="raw") as image:
        for _ in range(rng.randint(1, 12)):
            loud = rng.random() < 0.2
            written |= loud
            steps = LOUD if loud else QUIET
            steps[rng.choice(list(steps))](path)
            if rng.random() < 0.6:
                assert reads_the_first_state(image, 512 * rng.randrange(2000)) != written
            time.sleep(rng.choice([0, 0, 0, 0.001, 0.03]))
        assert reads_the_first_state(image, 0) != written


def reads_the_first_state(image: vdifs.Image, offset: int) -> bool:
    """Whether the image can be read; if so, what is read must be of the first state."""
    try:
        found = image.read_at(offset, 4096)
    except SourceChangedError:
        return False
    assert difference(found, stamped(offset, len(found), 1), offset) is None
    return True


def test_lease_numbers_are_those_of_the_kernel() -> None:
    """The filter of the mount's system calls has them too."""
    assert (fcntl.F_SETSIG, fcntl.F_SETLEASE, fcntl.F_RDLCK, fcntl.F_UNLCK) == (10, 1024, 0, 2)
    assert struct.calcsize("iIII") == 16
    assert lease.WITH_LEASES
