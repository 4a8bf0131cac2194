"""A daemon with an attacker's code in it: `taken_over WORDS mount OPTIONS`, a driver like tests.mount.driver.

Once the mount answers, confined, it writes WORDS, given in hexadecimal, to its supervisor again and again, says so in
its log, and goes on serving.
"""

import fcntl
import logging
import os
import sys
from contextlib import suppress
from typing import Any

from tests.mount.driver import main
from vdifs.mount import serve
from vdifs.mount.supervisor import Supervisor

_report = serve._report
_watch = Supervisor.watch
_found: list[Supervisor] = []


def watch(supervisor: Supervisor, mount: Any) -> None:
    _found.append(supervisor)
    _watch(supervisor, mount)


async def report(*args: Any) -> None:
    await _report(*args)
    fcntl.fcntl(_found[0]._pipe, fcntl.F_SETFL, os.O_NONBLOCK)
    with suppress(BlockingIOError):  # the supervisor reads no more
        for _ in range(100):
            os.write(_found[0]._pipe, WORDS)
    logging.getLogger("vdifs.mount").info("attacked")


if __name__ == "__main__":
    WORDS = bytes.fromhex(sys.argv.pop(1))
    setattr(Supervisor, "watch", watch)  # noqa: B010 - what a type checker would not let pass
    vars(serve)["_report"] = report
    sys.exit(main())
