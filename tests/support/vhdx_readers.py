"""What others make of VHDX files: QEMU and libvhdi read them, FATtools writes them."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.conftest import cannot_be_tried
from tests.support import oracle

_TIMEOUT_S = 100

_FATTOOLS = """
import json, random, sys
from FATtools import vhdxutils as v

parse = v.ParentLocator.parse
def parse_path(self):
    parse(self)
    self.entries["relative_path"] = self.entries["relative_path"].replace("\\\\", "/")
    for key in ("volume_path", "absolute_win32_path"):
        self.entries.setdefault(key, "")
v.ParentLocator.parse = parse_path

for layer in json.load(sys.stdin):
    if layer["parent"] is None:
        v.mk_dynamic(layer["name"], layer["size"], block=layer["block"], overwrite="yes")
    else:
        v.mk_diff(layer["name"], layer["parent"], block=layer["block"], overwrite="yes")
    image = v.Image(layer["name"], "r+b")
    for offset, length, seed in layer["writes"]:
        image.seek(offset)
        image.write(random.Random(seed).randbytes(length))
    image.flush()
    image.close()
"""


@dataclass
class Layer:
    """An image for FATtools to write. writes: offset, length, and the seed of the data."""

    name: str
    size: int
    block: int
    parent: str | None
    writes: Sequence[tuple[int, int, int]]


def write_with_fattools(folder: Path, layers: Sequence[Layer]) -> None:
    """Have FATtools write images into a folder, the lowest first."""
    if importlib.util.find_spec("FATtools") is None:
        cannot_be_tried("FATtools is not installed")
    words = [sys.executable, "-W", "ignore", "-c", _FATTOOLS]
    told = json.dumps([asdict(layer) for layer in layers])
    done = subprocess.run(words, cwd=folder, input=told, capture_output=True, text=True, timeout=_TIMEOUT_S)
    assert done.returncode == 0, done.stderr


def by_libvhdi(path: Path) -> bytes:
    """Return the disk as libvhdi reads it: of an image without a parent."""
    import pyvhdi  # type: ignore[import-not-found]  # it has no stubs

    file = pyvhdi.file()
    file.open(str(path))
    try:
        disk: bytes = file.read_buffer(file.get_media_size())
    finally:
        file.close()
    return disk


def by_qemu(path: Path) -> bytes:
    """Return the disk as QEMU reads it, which reads no children."""
    target = path.with_suffix(".by-qemu")
    oracle.qemu_img("convert", "-f", "vhdx", "-O", "raw", path, target)
    try:
        return target.read_bytes()
    finally:
        target.unlink()
