"""Starting fast: a command loads only what it needs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.builder import make

SCRIPT = """
import sys
from vdifs.cli.main import main
status = main(sys.argv[1:])
sys.stderr.write(" ".join(name for name in ("numpy", "rich", "trio", "pyfuse3") if name in sys.modules))
sys.exit(status)
"""


def loaded(*words: str | Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_version_and_help_load_none_of_the_big_libraries(words: list[str]) -> None:
    assert loaded(*words) == set()


def test_info_loads_none_of_the_big_libraries(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    make(tmp_path / "b.qcow2", 1 << 20, backing=("a.qcow2", "qcow2"))
    assert loaded("info", "--backing-chain", tmp_path / "b.qcow2") == set()


def test_list_in_json_does_not_load_rich(tmp_path: Path) -> None:
    assert loaded("list", tmp_path, "--output", "json") <= {"numpy"}


def test_export_without_a_bar_loads_neither_rich_nor_trio(tmp_path: Path) -> None:
    make(tmp_path / "a.qcow2", 1 << 20)
    assert loaded("export", tmp_path / "a.qcow2", tmp_path / "b.qcow2") <= {"numpy"}


@pytest.mark.parametrize("words", [["help", "mount"], ["completion", "bash"], ["status", "."], ["umount", "."]])
def test_small_commands_load_none_of_the_big_libraries(words: list[str]) -> None:
    code = "import sys; from vdifs.cli.main import main; main(sys.argv[1:]); print('', *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=True)
    assert not {"numpy", "rich", "trio", "pyfuse3"} & set(done.stderr.split("\n")[-2].split())


def slowness() -> float:
    """Return how many times slower the machine is now than the one that the limits are for; 1 for a faster one."""
    began = time.process_time()
    sum(number * number for number in range(1_000_000))
    return max(1.0, (time.process_time() - began) / 0.08)


def cpu_seconds(*words: str | Path) -> float:
    """Return the processor time that a command would take on the machine of the limits, the least of seven tries."""
    code = "import sys; from vdifs.cli.main import main; sys.exit(main())"
    taken = []
    slower = slowness()
    for _ in range(7):
        before = os.times()
        subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, timeout=120)
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        slower_before, slower = slower, slowness()
        taken.append(seconds / min(slower_before, slower))  # a moment's standstill excuses nothing
    return min(taken)


def test_version_and_info_are_quick(tmp_path: Path) -> None:
    """They take 0.05 s and 0.15 s on the machine of the limits. Not to be run where coverage is measured."""
    make(tmp_path / "a.qcow2", 1 << 20)
    assert cpu_seconds("--version") <= 0.10
    assert cpu_seconds("info", tmp_path / "a.qcow2") <= 0.25
