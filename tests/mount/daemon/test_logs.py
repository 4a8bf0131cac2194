"""Where a log goes: the system's log takes it in the background, and a file survives what happens to files."""

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ExpectWarning
from vdifs.errors import StorageError
from vdifs.mount.daemon import logs
from vdifs.mount.daemon.logs import logging_to
from vdifs.mount.view import log_destination as log_destination_module
from vdifs.mount.view.log_destination import log_destination
from vdifs.mount.view.options import MountOptions

OPTIONS = MountOptions(source="/src", mountpoint="/mnt")
log = logging.getLogger("vdifs.mount")


@pytest.fixture
def system_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the place of /dev/log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.settimeout(10)
        for module in (logs, log_destination_module):
            monkeypatch.setattr(module, "SYSTEM_LOG", str(tmp_path / "log"))
        yield listening


def test_in_the_background_without_a_file_the_system_is_told(
    system_log: socket.socket, expect_warning: ExpectWarning
) -> None:
    expect_warning("the disk fails")
    assert log_destination(OPTIONS) == "syslog"
    with logging_to(OPTIONS):
        log.warning("the disk fails")
        said = system_log.recv(1000)
    assert said.rstrip(b"\0") == f"<28>vdifs[{os.getpid()}]: the disk fails".encode()  # daemon.warning


def test_a_system_log_that_goes_away_stops_nobody(system_log: socket.socket, tmp_path: Path) -> None:
    with logging_to(OPTIONS) as thread:
        system_log.close()
        (tmp_path / "log").unlink()
        log.info("unheard")
        with thread.paused():
            log.info("unheard, too")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (OPTIONS, None),
        (replace(OPTIONS, foreground=True), "stderr"),
        (replace(OPTIONS, log_file="/log"), "/log"),
        (replace(OPTIONS, log_file="/log", foreground=True), "/log"),
    ],
)
def test_the_other_destinations(options: MountOptions, wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (logs, log_destination_module):
        monkeypatch.setattr(module, "SYSTEM_LOG", "/nowhere/at/all")
    assert log_destination(options) == wanted


def test_a_file_that_was_moved_away_is_begun_anew_even_if_that_fails_at_first(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with logging_to(replace(OPTIONS, log_file=str(folder / "log"))) as thread:
        log.info("first")
        with thread.paused():
            folder.rename(tmp_path / "moved")
        log.info("second")
        with thread.paused():
            folder.mkdir()
        log.info("third")
    assert (tmp_path / "moved/log").read_text().endswith("INFO first\n")
    lost, third = (folder / "log").read_text().splitlines()
    assert lost == "1 lines of the log could not be written"
    assert third.endswith("INFO third")


def test_a_file_that_was_moved_away_is_written_on_where_no_other_may_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a daemon on a kernel without Landlock."""
    path = tmp_path / "log"
    with logging_to(replace(OPTIONS, log_file=str(path))) as thread:
        log.info("one")
        with thread.paused():
            path.rename(tmp_path / "log.1")

            def refuse(_: object) -> None:
                raise PermissionError(1, "planted")

            monkeypatch.setattr(logs._LogFile, "_open", refuse)
        log.info("two")
    assert [line.split()[-1] for line in (tmp_path / "log.1").read_text().splitlines()] == ["one", "two"]
    assert not path.exists()


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [20, 0, 1000]

    def write(file: int, data: memoryview) -> int:
        left = room[0]
        if not left:
            room.pop(0)
            raise OSError(28, "No space left on device")
        written = really(file, data[:left])
        room[0] -= written
        return written

    really = os.write
    with logging_to(replace(OPTIONS, log_file=str(tmp_path / "log"))) as thread:
        monkeypatch.setattr(os, "write", write)
        log.info("one")
        log.info("two")
        log.info("three")
        with thread.paused():
            monkeypatch.setattr(os, "write", really)
    torn, lost, three = (tmp_path / "log").read_text().splitlines()
    assert len(torn) == 20
    assert lost == "2 lines of the log could not be written"
    assert three.endswith("INFO three")


def test_lines_that_nobody_writes_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 5)
    with logging_to(replace(OPTIONS, log_file=str(tmp_path / "log"))) as thread, thread.paused():
        for number in range(20):
            log.info("%d", number)
    assert len((tmp_path / "log").read_text().splitlines()) == 5


def test_a_file_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(StorageError, match="choose another log file"), logging_to(replace(OPTIONS, log_file="/proc/x")):
        pass
