"""A daemon with an attacker's code in it: `taken_over WORDS mount OPTIONS`, a driver like tests.mount.driver.

Once the mount answers, confined, it writes WORDS, given in hexadecimal, to its supervisor again and again, says so in
its log, and goes on serving. `log:COUNT` for WORDS: it does what it can to its log and in the folder of that, asks the
opener COUNT times for the log, and says there what was done.
"""

import fcntl
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.mount.driver import main
from vdifs.mount.daemon import serve
from vdifs.mount.daemon.log_opener import LogOpener
from vdifs.mount.daemon.supervisor import Supervisor

_report = serve._report
_watch = Supervisor.watch
_found: list[Supervisor] = []


def watch(supervisor: Supervisor, mount: Any) -> None:
    _found.append(supervisor)
    _watch(supervisor, mount)
    os.set_blocking(supervisor._pipe, False)  # while this process may


async def report(*args: Any) -> None:
    await _report(*args)
    supervisor = _found[0]
    if WORDS.startswith("log:"):
        opener = supervisor.log_opener
        assert opener is not None
        attack_the_log(opener, args[0].log_file, int(WORDS.removeprefix("log:")))
        return
    with suppress(BlockingIOError):  # the supervisor reads no more
        for _ in range(100):
            os.write(supervisor._pipe, bytes.fromhex(WORDS))
    logging.getLogger("vdifs.mount").info("attacked")


def attack_the_log(opener: LogOpener, log: str, count: int) -> None:
    """Do all that a log's descriptor and its folder may be good for, and say what could be done."""
    descriptor = opener.open()
    made = os.path.join(os.path.dirname(log), "made")

    def ask() -> None:
        """Also in words that have no meaning, and without taking the answers."""
        for number in range(count):
            os.close(opener.open())
            if number % 10 == 0:
                opener._asking.send(os.fsencode(made) * 10)
                os.close(socket.recv_fds(opener._asking, 4, 1)[1][0])

    attempts: dict[str, Callable[[], object]] = {
        "append": lambda: os.write(descriptor, b"planted\n"),
        "ask": ask,
        "let go of appending": lambda: fcntl.fcntl(descriptor, fcntl.F_SETFL, 0),
        "truncate": lambda: os.ftruncate(descriptor, 0),
        "write at the beginning": lambda: os.pwrite(descriptor, b"planted", 0),
        "open": lambda: os.open(log, os.O_WRONLY),
        "open by descriptor": lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR),
        "make": lambda: os.open(made, os.O_WRONLY | os.O_CREAT),
        "make a nameless one": lambda: os.open(os.path.dirname(log), os.O_WRONLY | os.O_TMPFILE),
        "rename": lambda: os.rename(log, made),
        "remove": lambda: os.unlink(log),
        "make a folder": lambda: os.mkdir(made),
        "link": lambda: os.link(log, made),
    }
    done = []
    for name, action in attempts.items():
        with suppress(PermissionError):
            action()
            done.append(name)
    opened = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
    logging.getLogger("vdifs.mount").info("attacked: done %s, opened %s", done, [opened])


if __name__ == "__main__":
    WORDS = sys.argv.pop(1)
    setattr(Supervisor, "watch", watch)  # noqa: B010 - what a type checker would not let pass
    vars(serve)["_report"] = report
    sys.exit(main())
