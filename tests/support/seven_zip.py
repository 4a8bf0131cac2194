"""7-Zip as a reader of images."""

import subprocess
from pathlib import Path

from tests.conftest import require_tool

__all__ = ["by_7zip"]

_TIMEOUT_S = 100


def by_7zip(path: Path, image_format: str) -> bytes:
    """Return the disk as 7-Zip reads it, which finds parents in the same folder. image_format: as 7-Zip calls it."""
    words = [require_tool("7z"), "x", "-so", f"-t{image_format}", path.name]
    done = subprocess.run(words, cwd=path.parent, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout
