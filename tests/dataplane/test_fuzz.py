"""A short form of scripts/fuzz-dataplane, which compiles what it runs."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import require_tool

SCRIPT = Path(__file__).parents[2] / "scripts/fuzz-dataplane"


def fuzz(*arguments: str) -> "subprocess.CompletedProcess[str]":
    require_tool("gcc")
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("sanitizer", "inputs", "programs"),
    [("address", "20000", ["parser", "index", "frames", "plane", "threads"]), ("thread", "4000", ["threads"])],
)
@pytest.mark.timeout(600)
def test_a_short_run_finds_nothing(sanitizer: str, inputs: str, programs: list[str]) -> None:
    done = fuzz("--inputs", inputs, "--sanitizer", sanitizer, *programs)
    assert done.stderr == ""
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == programs


@pytest.mark.parametrize("wrong", ["--inputs", "--inputs many", "--sanitizer hand", "nothing", "--x 1"])
def test_wrong_usage_is_status_2(wrong: str) -> None:
    done = fuzz(*wrong.split())
    assert done.returncode == 2
    assert done.stderr.startswith("scripts/fuzz-dataplane: ")
    assert done.stderr.count("\n") == 1
