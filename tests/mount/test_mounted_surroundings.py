"""What a daemon is born with and lives among: descriptors, signals, an umask, a folder that is gone, no environment."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.mounting import (
    PATIENCE_S,
    Mounted,
    Mounts,
    driver,
    eventually,
    is_mounted,
    links_of,
    outcome,
    supervisor_of,
)

COMMAND = [sys.executable, "-c", "import sys; from vdifs.cli.main import main; sys.exit(main())"]
_OTHERS = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
}  # fmt: skip
HARMLESS = [number for number in range(1, 65) if number not in _OTHERS]
_END_NOTHING = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}


def mounted_by(mounts: Mounts, source: Path, command: list[str], **surroundings: object) -> Mounted:
    """Mount with a command line in some surroundings."""
    folder = mounts.scratch / "mnt"
    folder.mkdir(exist_ok=True)
    words = [*command, "mount", str(source), str(folder), "--log-file", str(mounts.scratch / "log")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, **surroundings)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    mounted = Mounted(folder, mounts.scratch / "log")
    mounted.pid = mounted.status()["pid"]
    return mounted


def test_a_lock_that_the_caller_holds_is_free_when_it_ends(mounts: Mounts, source: Path) -> None:
    lock = mounts.scratch / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        mounted = mounted_by(mounts, source, COMMAND, close_fds=False)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert mounted.clear_away() == []


def test_a_pipe_of_the_caller_ends_with_it(mounts: Mounts, source: Path) -> None:
    reading, writing = os.pipe()
    far = fcntl.fcntl(writing, fcntl.F_DUPFD, 900)  # not all of them are small
    os.set_inheritable(writing, True)
    mounted = mounted_by(mounts, source, COMMAND, pass_fds=(writing, far))
    os.close(writing)
    os.close(far)
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert not any("pipe" in links_of(supervisor_of(mounted.pid))[number] for number in (0, 1, 2))
    assert mounted.clear_away() == []


def test_a_mount_in_the_foreground_passes_nothing_on(mounts: Mounts, source: Path) -> None:
    folder = mounts.scratch / "mnt"
    folder.mkdir()
    lock = mounts.scratch / "lock"
    with lock.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "mount", "-f", source, folder], pass_fds=[file.fileno()], stderr=subprocess.DEVNULL
        )
    eventually(lambda: is_mounted(folder))
    assert str(lock) in links_of(process.pid).values(), "its caller's it keeps, as any program does"
    eventually(lambda: str(lock) not in links_of(supervisor_of(process.pid)).values())
    assert outcome(driver("umount", str(folder))).status == 0
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("foreground", [False, True])
def test_no_other_signal_ends_a_mount(mounts: Mounts, source: Path, foreground: bool) -> None:
    mounted = mounts(source, foreground=foreground)
    for pid in (mounted.pid, supervisor_of(mounted.pid)):
        for number in HARMLESS:
            os.kill(pid, number)
    assert os.listdir(mounted / "full")
    assert (mounted / "raw/base.qcow2.raw").read_bytes()
    mounted.kill(signal.SIGTERM)
    mounted.wait_until_gone()


def test_nor_does_one_while_it_starts(mounts: Mounts, source: Path) -> None:
    folder = mounts.scratch / "mnt"
    folder.mkdir()
    options = {"source": str(source), "mountpoint": str(folder), "foreground": True}
    process = driver("mount", json.dumps(options), anew=True)
    eventually(lambda: ignores_all(process.pid) or is_mounted(folder) or process.poll() is not None)
    while not is_mounted(folder) and process.poll() is None:
        for number in HARMLESS:
            process.send_signal(number)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM, 1)
    process.communicate()


def ignores_all(pid: int) -> bool:
    """Whether a process ignores each of HARMLESS that would end it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return all(mask >> (number - 1) & 1 for number in HARMLESS if number not in _END_NOTHING)


def test_signals_that_the_caller_blocks_or_ignores_make_no_difference(mounts: Mounts, source: Path) -> None:
    def odd() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    mounted = mounted_by(mounts, source, COMMAND, preexec_fn=odd)
    mounted.kill(signal.SIGTERM)
    mounted.wait_until_gone()


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_an_odd_umask(mounts: Mounts, source: Path, user: int | None, umask: int) -> None:
    folder, mountpoint = mounts.scratch / "run", mounts.scratch / "mnt"
    for each in (folder, mountpoint):
        each.mkdir()
        if user is not None:
            os.chown(each, user, user)
    pid_file, log = folder / "pid", folder / "log"
    before = os.umask(umask)
    try:
        mounted = mounts(source, mountpoint, user=user, pid_file=str(pid_file), log_file=str(log))
    finally:
        os.umask(before)
    eventually(lambda: "mounted at" in log.read_text())
    wanted = 0o600 if umask & 0o077 else 0o644
    assert [path.stat().st_mode & 0o777 for path in (pid_file, log)] == [wanted, wanted]
    assert int(pid_file.read_text()) == mounted.pid
    mounted.kill(signal.SIGTERM)
    mounted.wait_until_gone()
    eventually(lambda: not pid_file.exists())


def test_a_working_directory_that_is_gone(mounts: Mounts, source: Path) -> None:
    gone = mounts.scratch / "gone"
    gone.mkdir()

    def stand_there() -> None:
        os.chdir(gone)
        gone.rmdir()

    mounted = mounted_by(mounts, source, COMMAND, preexec_fn=stand_there)
    assert mounted.clear_away() == []


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_standard_streams(mounts: Mounts, source: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    mounted = mounted_by(mounts, source, COMMAND, preexec_fn=close)
    assert mounted.clear_away() == []


@pytest.mark.parametrize(
    "environment", [{}, {"PATH": "/usr/bin:/bin"}, {"PATH": "/nowhere", "HOME": "/nowhere"}], ids=str
)
def test_no_environment(mounts: Mounts, source: Path, environment: dict[str, str]) -> None:
    mounted = mounted_by(mounts, source, COMMAND, env=environment)
    assert subprocess.run([*COMMAND, "umount", mounted.path], env=environment, timeout=PATIENCE_S).returncode == 0
    mounted.wait_until_gone()


@pytest.mark.parametrize("lost", ["closed", "reader gone"])
def test_a_mount_in_the_foreground_whose_standard_error_has_gone_ends_well(
    mounts: Mounts, source: Path, lost: str
) -> None:
    folder = mounts.scratch / "mnt"
    folder.mkdir()
    reading, writing = os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [*COMMAND, "mount", "-f", source, folder],
        stderr=writing,
        env=environment,
        preexec_fn=(lambda: os.close(2)) if lost == "closed" else None,  # noqa: PLW1509 - what a shell does for 2>&-
    ) as process:
        os.close(writing)
        os.close(reading)
        eventually(lambda: is_mounted(folder) and os.listdir(folder / "full"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not is_mounted(folder)
