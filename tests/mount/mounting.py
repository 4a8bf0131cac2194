"""Real mounts for tests: made, watched, and cleared away, with nothing left behind."""

import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import cannot_be_tried
from tests.mount.fork_server import Forked, ForkServer
from vdifs.linux.mountinfo import FUSE_TYPE, mounts

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
SOON_S = 5.0  # for what takes a second, or two at most, where no other load is; test_scanner adds it up
_LONGEST_TURN_S = 0.1
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.02
NOBODY = 65534
STARTED_ANEW = {"tests.mount.planting"}
"""Drivers that must be what imports vdifs."""
Program = subprocess.Popen[str] | Forked


def eventually(condition: Callable[[], object], within: float = PATIENCE_S) -> None:
    """Wait until `condition` holds. Seconds in which the machine stood still, for this process too, do not count."""
    waited, pause = 0.0, _SHORTEST_PAUSE_S
    while True:
        began = time.monotonic()
        if condition():
            return
        assert waited < within, f"not within {within} s"
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)  # what takes long is asked for less often, as asking takes time too
        waited += min(time.monotonic() - began, _LONGEST_TURN_S)


def is_mounted(path: Path) -> bool:
    return any(mount.mountpoint == str(path) and mount.type == FUSE_TYPE for mount in mounts())


def is_running(pid: int) -> bool:
    """Whether the process is there, and no zombie that waits for its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def links_of(pid: int) -> dict[int, str]:
    """Return what the descriptors of a process lead to, by number."""
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found[int(descriptor.name)] = os.readlink(descriptor)
    return found


def supervisor_of(pid: int) -> int:
    """Return the process id of a daemon's supervisor: its only child."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def as_user(user: int | None) -> dict[str, Any]:
    """The arguments with which `subprocess` runs something as that user."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


@cache
def interpreter(user: int | None) -> tuple[str, dict[str, str]] | None:
    """Return a Python that this user may run, and the environment in which it finds what vdifs needs."""
    packages = os.pathsep.join([str(ROOT), *site.getsitepackages()])
    for program, more in ((sys.executable, {}), ("/usr/bin/python3", {"PYTHONPATH": packages})):
        environment = {**os.environ, **more}
        try:
            command = [program, "-c", "import vdifs.mount.daemon.serve"]
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=environment, **as_user(user))
        except (OSError, subprocess.CalledProcessError):
            continue
        return program, environment
    return None


def driver(
    command: str,
    argument: str,
    user: int | None = None,
    module: Sequence[str] = ("tests.mount.driver",),
    *,
    anew: bool = False,
) -> Program:
    """Start the driver. module: another one to run in its place, and its first arguments.

    anew: in an interpreter that is started for it, as where the start itself is looked at.
    """
    found = interpreter(user)
    if found is None:
        cannot_be_tried("an ordinary user may not run Python from here")
    program, environment = found
    words: list[str] = [*module, command, argument]
    if not anew and words[0] not in STARTED_ANEW:
        return fork_server(user).run(words[0], words[1:], environment)
    process: subprocess.Popen[str] = subprocess.Popen(
        [program, "-m", *words],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **as_user(user),
    )
    return process


@cache
def fork_server(user: int | None) -> ForkServer:
    """Return the one of this process that runs programs as that user."""
    found = interpreter(user)
    assert found is not None
    program, environment = found
    return ForkServer(program, environment, ROOT, **as_user(user))


@dataclass(slots=True)
class Outcome:
    """How a command ended. said: what it wrote to standard error."""

    status: int
    said: str


def outcome(process: Program) -> Outcome:
    _, said = process.communicate(timeout=PATIENCE_S)
    return Outcome(process.wait(), said)


@dataclass(slots=True)
class Mounted:
    """A mount that a test works with. process: of a mount in the foreground."""

    path: Path
    log_file: Path
    user: int | None = None
    process: Program | None = None
    pid: int = 0
    expected: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.path / ".vdifs/status.json").read_text())
        return report

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def whole_log(self) -> str:
        """Unmount, and return all that was logged: a thread of its own writes it, a moment later."""
        done = self.umount()
        assert done.status == 0, done.said
        self.wait_until_gone()
        return self.log()

    def expect_log(self, pattern: str) -> None:
        """Say that a line at WARNING or above that matches `pattern` is expected, and must come."""
        self.expected.append(pattern)

    def allow_log(self, pattern: str) -> None:
        """Say that such lines may come: where it depends on the moment."""
        self.allowed.append(pattern)

    def umount(self) -> Outcome:
        return outcome(driver("umount", str(self.path), self.user))

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_until_gone(self, within: float = PATIENCE_S) -> None:
        eventually(lambda: not is_running(self.pid) and not is_mounted(self.path), within)

    def clear_away(self) -> list[str]:
        """Unmount if need be; return what is wrong with what the mount leaves behind."""
        found = []
        if is_mounted(self.path):
            done = self.umount()
            if done.status:
                found.append(f"umount: {done.said}")
                self.kill(signal.SIGKILL)
        try:
            self.wait_until_gone()
        except AssertionError:
            found.append(f"{self.path}: still mounted, or its daemon still runs")
        if self.process is not None:
            self.process.communicate(timeout=PATIENCE_S)
        return found + self._unexpected()

    def _unexpected(self) -> list[str]:
        lines = [line for line in self.log().splitlines() if not re.match(r"[-0-9]+ [:,0-9]+ (INFO|DEBUG) ", line)]
        surprises = [line for line in lines if not any(re.search(p, line) for p in self.expected + self.allowed)]
        missing = [p for p in self.expected if not any(re.search(p, line) for line in lines)]
        return [f"logged unexpectedly: {line}" for line in surprises] + [f"never logged: {p}" for p in missing]


class Mounts:
    """Makes mounts in one scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._made: list[Mounted] = []

    def attempt(self, source: Path, mountpoint: Path, *, user: int | None = None, **options: object) -> Outcome:
        """Try to mount something that should be refused."""
        asked = {"source": str(source), "mountpoint": str(mountpoint), **options}
        return outcome(driver("mount", json.dumps(asked), user))

    def __call__(
        self,
        source: Path,
        mountpoint: Path | None = None,
        *,
        user: int | None = None,
        module: Sequence[str] = ("tests.mount.driver",),
        **options: object,
    ) -> Mounted:
        """Mount `source`; the mount answers when this returns."""
        number = len(self._made)
        if mountpoint is None:
            mountpoint = self.scratch / f"mnt{number}"
            mountpoint.mkdir()
            if user is not None:
                os.chown(mountpoint, user, user)
        log_file = self.scratch / f"log{number}"
        log_file.touch()
        if user is not None:
            os.chown(log_file, user, user)
        asked = {"source": str(source), "mountpoint": str(mountpoint), "log_file": str(log_file), **options}
        process = driver("mount", json.dumps(asked), user, module)
        mounted = Mounted(mountpoint.resolve(), log_file, user)
        self._made.append(mounted)
        if options.get("foreground"):
            mounted.process, mounted.pid = process, process.pid
            eventually(lambda: "mounted at" in mounted.log() or process.poll() is not None)
            assert process.poll() is None, outcome(process).said
        else:
            done = outcome(process)
            assert done.status == 0, done.said
            assert done.said == ""
            mounted.pid = _pid_in(mounted)
        return mounted

    def end_all(self) -> list[str]:
        """Unmount every mount; return what is wrong with what they leave behind."""
        return [problem for mounted in reversed(self._made) for problem in mounted.clear_away()]

    def clear_away(self) -> list[str]:
        """Do the same, and see that nothing else is mounted in the scratch folder."""
        found = self.end_all()
        left = [each.mountpoint for each in mounts() if each.mountpoint.startswith(f"{self.scratch}/")]
        for mountpoint in reversed(left):
            subprocess.run(["umount", "-l", mountpoint], capture_output=True)
        return found + [f"left mounted: {mountpoint}" for mountpoint in left]


def _pid_in(mounted: Mounted) -> int:
    if mounted.user is None or mounted.user == os.geteuid():
        return int(mounted.status()["pid"])
    command = ["cat", str(mounted / ".vdifs/status.json")]
    shown = subprocess.run(command, capture_output=True, check=True, text=True, **as_user(mounted.user))
    return int(json.loads(shown.stdout)["pid"])


def umount_disk(folder: Path) -> None:
    """Unmount what a test has mounted with mount(8), and wait until no loop device holds the image any more."""
    source = subprocess.run(["findmnt", "-no", "SOURCE", folder], capture_output=True, text=True).stdout.strip()
    eventually(lambda: subprocess.run(["umount", folder], capture_output=True).returncode == 0)
    if source.startswith("/dev/loop"):
        eventually(lambda: not Path(f"/sys/block/{Path(source).name}/loop").exists())


def remove_scratch(scratch: Path) -> None:
    shutil.rmtree(scratch)
