"""A process beside the daemon opens a log anew that was moved away: one path, to append to, whatever is asked."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.mount.mounting import Mounted, Mounts, eventually, is_running, links_of, supervisor_of
from vdifs.mount.daemon.log_opener import LogAnswers, LogOpener

ATTACKS = 300


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def opener(logs: Path) -> Iterator[LogOpener]:
    """One whose requests are answered, by a thread of this process."""
    answers, opener = LogAnswers.pair(str(logs / "log"))
    Thread(target=answers.answer).start()
    yield opener
    opener.close()


def write(descriptor: int, line: bytes) -> None:
    os.write(descriptor, line)
    os.close(descriptor)


def test_a_file_is_made_and_one_that_is_there_is_appended_to(opener: LogOpener, logs: Path) -> None:
    for line in (b"one\n", b"two\n"):
        write(opener.open(), line)
    assert (logs / "log").read_bytes() == b"one\ntwo\n"


def test_a_folder_that_was_made_anew_is_found(opener: LogOpener, logs: Path) -> None:
    logs.rename(logs.with_name("moved"))
    with pytest.raises(FileNotFoundError):
        opener.open()
    logs.mkdir()
    write(opener.open(), b"one\n")
    assert (logs / "log").read_bytes() == b"one\n"


def link_the_file(logs: Path, elsewhere: Path) -> None:
    (logs / "log").symlink_to(elsewhere / "log")


def link_the_folder(logs: Path, elsewhere: Path) -> None:
    logs.rename(logs.with_name("moved"))
    logs.symlink_to(elsewhere)


def make_a_pipe(logs: Path, elsewhere: Path) -> None:
    os.mkfifo(logs / "log")


@pytest.mark.parametrize("change", [link_the_file, link_the_folder, make_a_pipe])
def test_nothing_else_is_opened(
    opener: LogOpener, logs: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "log").write_bytes(b"precious")
    change(logs, elsewhere)
    with pytest.raises(PermissionError):
        opener.open()
    assert (elsewhere / "log").read_bytes() == b"precious"
    assert os.listdir(elsewhere) == ["log"]


def test_a_link_to_the_log_is_followed_once(tmp_path: Path, logs: Path) -> None:
    (logs / "log").touch()
    (tmp_path / "link").symlink_to(logs / "log")
    answers, opener = LogAnswers.pair(str(tmp_path / "link"))
    Thread(target=answers.answer).start()
    (tmp_path / "link").unlink()
    write(opener.open(), b"one\n")
    opener.close()
    assert (logs / "log").read_bytes() == b"one\n"
    assert not (tmp_path / "link").exists()


def test_an_answer_that_is_late_stops_nobody(logs: Path) -> None:
    answers, opener = LogAnswers.pair(str(logs / "log"))
    opener._patience_ms = 1
    for _ in range(3):
        with pytest.raises(PermissionError, match="not been opened yet"):
            opener.open()
    Thread(target=answers.answer).start()
    eventually((logs / "log").exists)
    opener._patience_ms = 60_000
    eventually(lambda: opener._poll.poll(0))
    write(opener.open(), b"one\n")
    write(opener.open(), b"two\n")
    opener.close()
    assert (logs / "log").read_bytes() == b"one\ntwo\n"


def test_without_an_opener_nothing_is_opened(logs: Path) -> None:
    answers, opener = LogAnswers.pair(str(logs / "log"))
    answers.close()
    for _ in range(2):
        with pytest.raises(PermissionError, match="gone"):
            opener.open()
    opener.close()


def say_something(mounted: Mounted) -> None:
    """Have a line logged now."""
    mounted.kill(signal.SIGTERM)
    mounted.wait_until_gone()


def rotating(mounts: Mounts, source: Path, folder: Path) -> tuple[Mounted, Path]:
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    mounted = mounts(source, log_file=str(log))
    eventually(lambda: "mounted at" in log.read_text())
    return mounted, log


def test_a_log_of_a_mount_in_the_foreground_begins_anew(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, foreground=True)
    mounted.log_file.rename(mounts.scratch / "log.1")
    say_something(mounted)
    assert "unmounted" in mounted.log()
    assert "unmounted" not in (mounts.scratch / "log.1").read_text()


def test_a_log_among_the_sources_begins_anew(mounts: Mounts, source: Path) -> None:
    mounted, log = rotating(mounts, source, source)
    log.rename(source / "log.1")
    say_something(mounted)
    assert "unmounted" in log.read_text()
    assert "unmounted" not in (source / "log.1").read_text()


def test_a_log_that_was_copied_and_truncated_goes_on(mounts: Mounts, source: Path) -> None:
    mounted, log = rotating(mounts, source, mounts.scratch / "logs")
    os.truncate(log, 0)
    say_something(mounted)
    assert "unmounted" in log.read_text()
    assert "\0" not in log.read_text()


def opener_of(mounted: Mounted) -> int:
    """Return the process that opens the log anew: the supervisor's only child."""
    return supervisor_of(supervisor_of(mounted.pid))


def test_a_daemon_whose_opener_was_killed_goes_on_in_the_old_log(mounts: Mounts, source: Path) -> None:
    mounted, log = rotating(mounts, source, mounts.scratch / "logs")
    os.kill(opener_of(mounted), signal.SIGKILL)
    log.rename(log.with_name("log.1"))
    say_something(mounted)
    assert "unmounted" in log.with_name("log.1").read_text()
    assert not log.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_opener_ends_with_its_daemon(mounts: Mounts, source: Path, number: signal.Signals) -> None:
    mounted = mounts(source)
    opener = opener_of(mounted)
    assert all("socket" in link or "null" in link for link in links_of(opener).values())
    mounted.kill(number)
    mounted.wait_until_gone()
    eventually(lambda: not is_running(opener))


def test_a_daemon_that_was_taken_over_changes_nothing_but_the_end_of_its_log(mounts: Mounts, source: Path) -> None:
    """Its log was moved away, and a link stands there: whatever it asks of the opener, that follows none."""
    folder, secret = mounts.scratch / "logs", mounts.scratch / "secret"
    secret.write_bytes(b"precious")
    folder.mkdir()
    log = folder / "log"
    through = ("tests.mount.taken_over", f"log:{ATTACKS}")
    mounted = mounts(source, log_file=str(log), module=through)
    eventually(lambda: "attacked" in log.read_text())
    (said,) = [line for line in log.read_text().splitlines() if "attacked" in line]
    assert said.endswith(f"attacked: done {['append', 'ask']}, opened {['log']}")
    assert sorted(os.listdir(folder)) == ["log"]
    log.rename(folder / "log.1")
    log.symlink_to(secret)
    assert not [link for link in links_of(opener_of(mounted)).values() if "log" in link]
    say_something(mounted)
    assert secret.read_bytes() == b"precious"
    assert "unmounted" in (folder / "log.1").read_text()
    assert sorted(os.listdir(folder)) == ["log", "log.1"]
