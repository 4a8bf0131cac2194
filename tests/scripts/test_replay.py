"""`scripts/replay` fails where vdifs refuses what QEMU reads, unless the README says that it does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPLAY = Path(__file__).parents[2] / "scripts" / "replay"
FILE = "/iotests/060/t.qcow2"
CORRUPT = f"FormatError: {FILE}: the image is marked corrupt: repair it with 'qemu-img check -r all' first"
NO_FORMAT = "its overlay states no format and it is no qcow2, VHD, VHDX, VMDK or VDI image: it is not taken for raw"
UNSTATED = f"PolicyError: {FILE}.orig: {NO_FORMAT}"


@pytest.mark.parametrize(
    ("verdict", "detail", "ended", "status"),
    [
        ("same", "", 0, 0),
        ("both refuse", "FormatError: whatever", 0, 0),
        ("only vdifs", CORRUPT, 0, 0),
        ("only vdifs", UNSTATED, 0, 0),
        ("only vdifs", CORRUPT, 1, 1),
        ("only vdifs", f"FormatError: {FILE}: cluster_bits is 22", 0, 1),
        ("only vdifs", f"FormatError: {FILE}: a name: the image is marked corrupt: ", 0, 1),
        ("only vdifs", CORRUPT.replace("060", "061"), 0, 1),
    ],
)
def test_only_what_is_documented_may_be_refused(
    verdict: str, detail: str, ended: int, status: int, tmp_path: Path
) -> None:
    rows = [["state", "060", "other", "same", ""], ["state", "060", "t.qcow2", verdict, detail]]
    done = replay(tmp_path, rows, ended)
    assert done.returncode == status
    assert ("not documented: 060 t.qcow2" in done.stderr) is (status > ended)


def test_no_images_at_all_are_a_failure(tmp_path: Path) -> None:
    assert replay(tmp_path, [], 0).returncode == 1


def replay(folder: Path, rows: list[list[str]], ended: int) -> "subprocess.CompletedProcess[str]":
    """Run it on a program that says `rows` and ends with `ended`."""
    program = folder / "program.py"
    lines = ["import sys", "assert sys.argv[1] == '--json'", f"open(sys.argv[2], 'w').write({json.dumps(rows)!r})"]
    program.write_text("\n".join([*lines, f"sys.exit({ended})"]))
    return subprocess.run([sys.executable, REPLAY, sys.executable, program], capture_output=True, text=True, timeout=60)
