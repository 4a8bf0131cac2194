"""`python -m drawing IMAGES PICTURES`: draw every picture of the images in one folder into another."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from drawing.capture import last_bar, shown
from drawing.svg import DARK, LIGHT, svg

COLUMNS = (80, 200)
_EXPORT = "vdifs export images/wednesday.qcow2 - --format raw | zstd > wednesday.raw.zst"
_SOME_WAY = re.compile(r"([1-9][0-9]{2}|[6-9][0-9])\.[0-9]/")


def main() -> None:
    """Draw them."""
    images, pictures = (Path(each).absolute() for each in sys.argv[1:])
    os.chdir(images.parent)
    for columns in COLUMNS:
        _draw(pictures, "list", "vdifs list images", _list(columns), columns)
        command = "vdifs map images/wednesday.qcow2"
        _draw(pictures, "map", command, shown(command, columns), columns)
        _draw(pictures, "export", _EXPORT, _export(columns), columns)


def _draw(pictures: Path, name: str, command: str, text: str, columns: int) -> None:
    for theme_name, theme in (("light", LIGHT), ("dark", DARK)):
        (pictures / f"{name}-{columns}-{theme_name}.svg").write_text(svg(command, text, columns, theme))


def _list(columns: int) -> str:
    """List them while one is being written."""
    with ExitStack() as stack:
        writer = subprocess.Popen(
            ["qemu-io", "images/web.qcow2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        stack.enter_context(writer)
        assert writer.stdout is not None
        writer.stdout.read(1)  # its prompt: the image is open
        return shown("vdifs list images", columns)


def _export(columns: int) -> str:
    """Export into something slow, and look before the end."""
    slow = _EXPORT.replace("zstd >", "zstd -q -11 --single-thread >")
    return last_bar(shown(slow, columns, lambda text: _SOME_WAY.search(last_bar(text)) is not None))


if __name__ == "__main__":
    main()
