"""Starting fast: a command loads only what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.qemu import oracle

SCRIPT = """
import sys
from vdifs.cli.main import main
status = main(sys.argv[1:])
sys.stderr.write(" ".join(name for name in ("numpy", "rich", "trio", "pyfuse3") if name in sys.modules))
sys.exit(status)
"""


def loaded(*words: str | Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_version_and_help_load_none_of_the_big_libraries(words: list[str]) -> None:
    assert loaded(*words) == set()


def test_info_loads_neither_rich_nor_trio(tmp_path: Path) -> None:
    oracle.create(tmp_path / "a.qcow2", 1 << 20)
    assert loaded("info", tmp_path / "a.qcow2") <= {"numpy"}


def test_list_in_json_does_not_load_rich(tmp_path: Path) -> None:
    assert loaded("list", tmp_path, "--output", "json") <= {"numpy"}


def test_export_without_a_bar_loads_neither_rich_nor_trio(tmp_path: Path) -> None:
    oracle.create(tmp_path / "a.qcow2", 1 << 20)
    assert loaded("export", tmp_path / "a.qcow2", tmp_path / "b.qcow2") <= {"numpy"}
