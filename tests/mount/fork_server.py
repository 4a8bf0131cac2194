"""A fork server: it has imported vdifs, and forks for each program that a test wants to have run.

To start an interpreter and to import the daemon takes many times as long as to mount. Tests of how vdifs itself starts
(tests/cli, mounted_by, mount(8)) run it as users do.

    test --socket--> server    what to run; standard output, standard error, and a pipe
                       '-fork--> program
    test <--pipe---- server    the program's process id; when it has ended, its status
"""

import gc
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["ForkServer", "Forked"]

_IMPORTED = ("vdifs.mount.daemon.mount", "vdifs.mount.daemon.serve")
_LONGEST = 1 << 20
_PIECE = 1 << 16
_STARTED_WITHIN_S = 60.0


class Forked:
    """A program that the server runs: what `subprocess.Popen` tells of one, whose output is text."""

    def __init__(self, words: Sequence[str], told: int, outputs: tuple[int, int]) -> None:
        self._words = words
        self._told = told
        self._outputs = outputs
        self._open = [told, *outputs]
        self._heard = b""
        self.returncode: int | None = None
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while b"\n" not in self._heard:
            self._hear(deadline)
        self.pid = int(self._heard.split(b"\n")[0])

    def poll(self) -> int | None:
        """Return its status if it has ended."""
        while self.returncode is None and _is_ready(self._told, 0.0):
            self._hear(None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its status, when it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            self._hear(deadline)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote to standard output and to standard error, when it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        written: dict[int, bytes] = dict.fromkeys(self._outputs, b"")
        left = [output for output in self._outputs if output in self._open]
        while left:
            ready, _, _ = select.select(left, [], [], self._seconds_to(deadline))
            for output in ready:
                piece = os.read(output, _PIECE)
                written[output] += piece
                if not piece:
                    left.remove(output)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        self._close()
        said, complained = (written[output].decode(errors="replace") for output in self._outputs)
        return said, complained

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def _hear(self, deadline: float | None) -> None:
        """Take what the server tells next."""
        if not _is_ready(self._told, self._seconds_to(deadline)):
            return
        piece = os.read(self._told, _PIECE)
        self._heard += piece
        if self._heard.count(b"\n") == 2:
            self.returncode = int(self._heard.split(b"\n")[1])
        elif not piece:
            raise ConnectionError(f"the fork server ended before it had run {self._words}")

    def _seconds_to(self, deadline: float | None) -> float | None:
        """Return how many are left; raises TimeoutExpired if none are."""
        if deadline is None:
            return None
        left = deadline - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(list(self._words), 0.0)
        return left


def own_umask() -> int:
    """Return that of this process."""
    os.umask(found := os.umask(0o022))
    return found


def _is_ready(descriptor: int, seconds: float | None) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


class ForkServer:
    """The test's side of a server. It ends with the process that started it."""

    def __init__(self, python: str, environment: Mapping[str, str], folder: Path, **options: Any) -> None:
        """Start one. options: of `subprocess.Popen`, as which user it is to run."""
        self._asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Threads from before the confinement would not be confined: the daemon sees to that before it imports numpy.
        alone = {**environment, "OPENBLAS_NUM_THREADS": "1"}
        words = [python, "-m", "tests.mount.fork_server", str(answering.fileno())]
        with answering:
            self._process = subprocess.Popen(
                words, env=alone, cwd=folder, stdin=subprocess.DEVNULL, pass_fds=[answering.fileno()], **options
            )

    def run(self, module: str, words: Sequence[str], environment: Mapping[str, str]) -> Forked:
        """Run `python -m module words`; standard input is empty."""
        pipes = [os.pipe() for _ in range(3)]
        asked = json.dumps([module, list(words), dict(environment), own_umask()]).encode()
        socket.send_fds(self._asking, [asked], [writing for _, writing in pipes])
        for _, writing in pipes:
            os.close(writing)
        told, output, error = (reading for reading, _ in pipes)
        return Forked([module, *words], told, (output, error))

    def end(self, timeout: float) -> int:
        """Have it end, and return its status."""
        self._asking.close()
        return self._process.wait(timeout)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to run. told, output, error: descriptors."""

    module: str
    words: list[str]
    environment: dict[str, str]
    umask: int
    told: int
    output: int
    error: int


def _serve(asking: socket.socket) -> None:
    """Run what is asked for, until the one who asks has gone."""
    running: dict[int, tuple[int, int]] = {}
    poll = select.poll()
    poll.register(asking, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                poll.unregister(ready)
                pid, told = running.pop(ready)
                _, status = os.waitpid(pid, 0)
                _tell(told, os.waitstatus_to_exitcode(status))
                os.close(told)
                os.close(ready)
                continue
            message, descriptors, _, _ = socket.recv_fds(asking, _LONGEST, 3)
            if not message:
                return
            asked = _Asked(*json.loads(message), *descriptors)
            pid = os.fork()
            if pid == 0:
                _become(asked)
            os.close(asked.output)
            os.close(asked.error)
            ended = os.pidfd_open(pid)
            running[ended] = pid, asked.told
            poll.register(ended, select.POLLIN)
            _tell(asked.told, pid)


def _tell(told: int, number: int) -> None:
    try:
        os.write(told, b"%d\n" % number)
    except BrokenPipeError:
        pass  # the test does not wait for it


def _become(asked: _Asked) -> NoReturn:
    """Be the program, with nothing of the server's open."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((null, asked.output, asked.error)):
            os.dup2(descriptor, number)
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2:
                try:
                    os.close(number)
                except OSError:
                    pass  # by which they were listed
        os.environ.clear()
        os.environ.update(asked.environment)
        os.umask(asked.umask)
        sys.argv[1:] = asked.words
        try:
            runpy.run_module(asked.module, run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - as of any program, the test is told
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    for module in _IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        _serve(asking)


if __name__ == "__main__":
    main()
