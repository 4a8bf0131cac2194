"""Running vdifs on a terminal: a pty of a given width, and what is seen on it."""

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.cli.conftest import COMMAND

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ROWS = 40
_PATIENT = "import vdifs.cli.render.waiting as w; w.PATIENCE_S *= 120"
"""On a slow machine a quick command takes a while too, and the line that says so is not what most tests are about."""


@dataclass(frozen=True)
class Shown:
    """What a command left on the terminal: everything that was written, escapes and all."""

    status: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """The lines without colours."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n").splitlines()

    @property
    def has_colors(self) -> bool:
        """Whether any escape sets a foreground or background colour."""
        codes = ";".join(match[2:-1] for match in _COLOR.findall(self.raw)).split(";")
        return any(re.fullmatch("[349][0-8]|10[0-7]", code) for code in codes)


class Terminal:
    """A terminal of `columns`; what is written to it is read all the while."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self._read = bytearray()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        try:
            while data := os.read(self._ours, 1 << 16):
                self._read += data
        except OSError:
            pass  # EIO: no process has it open any more

    @property
    def text(self) -> str:
        """What has been written by now."""
        ended = not self._thread.is_alive()
        return codecs.getincrementaldecoder("utf-8")().decode(bytes(self._read), ended)  # a character may come in parts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Read the rest, once those who write have ended."""
        os.close(self.theirs)
        self._thread.join(100)
        os.close(self._ours)


def environment(**more: str) -> dict[str, str]:
    """Return that of a user with a terminal of 256 colours."""
    unwanted = ("PYTHONUNBUFFERED", "COLUMNS", "LINES", "NO_COLOR", "COLORTERM", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **more}


def on_terminal(*words: str | Path, columns: int = 80, cwd: Path | None = None, before: str = "", **more: str) -> Shown:
    """Run vdifs with all its standard files on a terminal. before: Python to run first. more: environment."""
    command = [COMMAND[0], COMMAND[1], f"{_PATIENT}\n{before}\n{COMMAND[2]}", *map(str, words)]
    with Terminal(columns) as terminal:
        files = terminal.theirs
        done = subprocess.run(
            command, env=environment(**more), cwd=cwd, timeout=120, stdin=files, stdout=files, stderr=files
        )
    return Shown(done.returncode, terminal.text)
