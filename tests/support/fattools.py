"""FATtools writes VHD, VHDX, VMDK and VDI, and children of them: run as a program of its own, as it is GPL.

write_chain(folder, "vhd", names, size, wrote)      names[0] is the base; wrote[n] goes to names[n]
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import cannot_be_tried
from tests.support.written_disks import Write

_SCRIPT = """
import glob, importlib, json, sys
any_order = glob.glob
glob.glob = lambda pattern: sorted(any_order(pattern))  # it opens what it finds: a child of a child has no end
task = json.load(sys.stdin)
module = importlib.import_module("FATtools." + task["format"] + "utils")
for number, name in enumerate(task["names"]):
    if number:
        module.mk_diff(name, task["names"][number - 1], overwrite="yes")
    else:
        make = getattr(module, "mk_fixed" if task["fixed"] else "mk_dynamic")
        make(name, task["size"], overwrite="yes", **task["options"])
    image = module.Image(name, "r+b")
    for offset, data in task["writes"][number]:
        image.seek(offset)
        image.write(bytearray.fromhex(data))
    image.flush()
    image.close()
"""


def write_chain(
    folder: Path,
    format_name: str,
    names: list[str],
    size: int,
    wrote: list[list[Write]],
    *,
    fixed: bool = False,
    **options: int,
) -> None:
    """Make a base and its children in `folder`, and write to each of them."""
    if importlib.util.find_spec("FATtools") is None:
        cannot_be_tried("FATtools is not installed")
    said = [[(each.offset, each.data.hex()) for each in writes] for writes in wrote]
    task = {"format": format_name, "names": names, "size": size, "writes": said, "fixed": fixed, "options": options}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], input=json.dumps(task), cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
