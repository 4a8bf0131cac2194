"""Running a command on a terminal of a given width, and reading what it writes there."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable

__all__ = ["last_bar", "shown"]

_ROWS = 40
_BAR = re.compile(r"[^\r]*\d+:\d\d:\d\d[^\r\n]*")


def shown(command: str, columns: int, enough: Callable[[str], bool] = lambda _: False) -> str:
    """Return what a shell command writes to a terminal of that width. It is ended once `enough` of it was seen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    unwanted = ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment = kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
    found = b""
    with subprocess.Popen(
        ["bash", "-c", command], env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            while (data := os.read(ours, 1 << 16)) and not enough(found.decode(errors="ignore")):
                found += data
        except OSError:
            pass  # EIO: the command has ended
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)
    os.close(ours)
    return found.decode(errors="ignore").replace("\r\n", "\n")


def last_bar(text: str) -> str:
    """Return the last bar that was drawn whole, with the time that is left."""
    frames = [_BAR.search(frame) for frame in text.split("\x1b[2K")]
    bars = [bar[0] for bar in frames if bar is not None]
    return bars[-1] if bars else ""
