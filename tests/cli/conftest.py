"""Running vdifs as a user does: in this process, which is fast, or in one of its own, which is real."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import require_tool
from vdifs.cli.main import main

COMMAND = (sys.executable, "-c", "import sys; from vdifs.cli.main import main; sys.exit(main())")


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Vdifs = Callable[..., Ended]


@pytest.fixture(autouse=True)
def qemu_img() -> None:
    require_tool("qemu-img")
    require_tool("qemu-io")


@pytest.fixture
def vdifs(capfd: pytest.CaptureFixture[str]) -> Vdifs:
    """Call it with the words of a command line; it runs in this process."""

    def run(*words: str | Path) -> Ended:
        capfd.readouterr()
        status = main([str(word) for word in words])
        return Ended(status, *capfd.readouterr())

    return run


def run_process(*words: str | Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run vdifs in a process of its own and return what it left; `options` are those of subprocess.run."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # as users have it
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    usual: dict[str, Any] = {"env": buffered, "timeout": 120, **pipes}
    done: Any = subprocess.run([*COMMAND, *map(str, words)], **(usual | options))
    ended: subprocess.CompletedProcess[bytes] = done
    return ended
