"""The examples of the README and of the pages in docs/: fenced blocks with `<!-- run: NAME -->` before them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import require_tool
from vdifs.linux.mountinfo import mounts

README = Path(__file__).parents[2] / "README.md"
PAGES = (README, *sorted(README.parent.glob("docs/*.md")))
_EXAMPLE = re.compile(
    r"^<!-- run: (?P<name>\S+) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_TOOLS = {
    "restic": ["restic"],
    "look": ["losetup", "sfdisk", "mkfs.ext4"],
    "offset": ["losetup"],
    "debugfs": ["debugfs"],
    "serve": ["nbdkit", "nbdinfo", "nbdcopy"],
    "export": ["zstd"],
}
_FENCE = re.compile(r"^```(?!text$)\w+$", re.MULTILINE)


def text() -> str:
    """Return all pages, the README first."""
    return "\n".join(page.read_text() for page in PAGES)


def examples(*, of_demo: bool = False) -> dict[str, tuple[str, str]]:
    """Return language and text of each example by name. of_demo: only of pages that say they run in `demo/`."""
    pages = [page.read_text() for page in PAGES if not of_demo or "`demo/`" in page.read_text()]
    return {found["name"]: (found["language"], found["text"]) for found in _EXAMPLE.finditer("\n".join(pages))}


def fenced_blocks() -> int:
    """Return how many fenced blocks of code there are, examples or not."""
    return len(_FENCE.findall(text()))


def run(name: str, folder: Path) -> str:
    """Run an example and return what it said."""
    for tool in _TOOLS.get(name, []):
        require_tool(tool)
    language, text = examples()[name]
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])
    command = {"sh": ["bash", "-euo", "pipefail", "-c", text], "python": [sys.executable, "-c", text]}[language]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
    )
    left = [mount.mountpoint for mount in mounts() if mount.mountpoint.startswith(f"{folder}/")]
    for mountpoint in reversed(left):
        subprocess.run(["umount", "-l", mountpoint], check=False)
    assert done.returncode == 0, done.stderr
    assert not left
    return done.stdout
