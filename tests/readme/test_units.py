"""What the pages give for /etc: systemd takes the units, mount(8) the line of fstab."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.readme.examples import text

UNITS = [
    textwrap.dedent(block)
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text(), re.MULTILINE)
    if "[Unit]" in block
]
NAMES = {"[Mount]": "srv-vdifs.mount", "[Service]": "vdifs@.service"}


def name_of(unit: str) -> str:
    return next(name for section, name in NAMES.items() if section in unit)


def complaints(unit: str, folder: Path) -> tuple[int, str]:
    """Return what `systemd-analyze verify` says of a unit whose programs are there."""
    program = folder / "vdifs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = folder / name_of(unit)
    path.write_text(unit.replace("/usr/local/bin/vdifs", str(program)))
    command = [require_tool("systemd-analyze"), "verify", "--man=no", f"./{path.name}"]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_a_page_has_both_units_and_names_them() -> None:
    assert sorted(map(name_of, UNITS)) == sorted(NAMES.values())
    assert all(f"`/etc/systemd/system/{name}`" in text() for name in NAMES.values())


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    assert complaints(unit, tmp_path) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_systemd_would_say_what_is_wrong_with_it(unit: str, tmp_path: Path) -> None:
    section = "Service" if "[Service]" in unit else "Mount"
    assert "Unknown key" in complaints(unit.replace(f"[{section}]", f"[{section}]\nFrob=yes"), tmp_path)[1]


def test_a_service_waits_for_the_mount_and_stays_in_the_foreground() -> None:
    (service,) = [unit for unit in UNITS if "[Service]" in unit]
    assert "Type=notify\n" in service
    assert "vdifs mount -f " in service


def test_mount8_takes_the_line_of_fstab(tmp_path: Path) -> None:
    (line,) = re.findall(r"^    (/srv.* fuse\.vdifs .*)$", text(), re.MULTILINE)
    (tmp_path / "fstab").write_text(line + "\n")
    command = [require_tool("findmnt"), "-F", "fstab", "-n", "-o", "TARGET,FSTYPE,OPTIONS"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["/srv/vdifs", "fuse.vdifs", "allow_other,nofail"]
