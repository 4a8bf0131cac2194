"""The harness itself: each of its checks is seen to fail a test that deserves it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest

LOGS_A_WARNING = """
import logging

def test_it():
    logging.getLogger("vdifs.source").warning("the image is %s", "dirty")
"""

EXPECTS_A_WARNING = """
import logging

def test_it(expect_warning):
    expect_warning("is dirty")
    {}
"""

NEEDS_A_TOOL = """
from conftest import require_tool

def test_it():
    require_tool({!r})
"""

IS_RANDOM = """
import pytest

@pytest.mark.seeds(2, long=5)
def test_it(seed, rng):
    assert seed != 4

@pytest.mark.long
def test_long():
    pass
"""


def outcome(folder: Path, test: str, *arguments: str, ci: bool = False) -> str:
    """Run `test` beside a copy of the harness and return what pytest printed."""
    shutil.copy(conftest.__file__, folder / "conftest.py")
    (folder / "test_inner.py").write_text(test)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(folder)]
    done = subprocess.run(
        [*command, "-v", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_an_unexpected_warning_fails_the_test(tmp_path: Path) -> None:
    assert "logged unexpectedly: WARNING vdifs.source: the image is dirty" in outcome(tmp_path, LOGS_A_WARNING)


def test_an_expected_warning_does_not(tmp_path: Path) -> None:
    test = EXPECTS_A_WARNING.format('logging.getLogger("vdifs").error("a.qcow2: is dirty")')
    assert "1 passed" in outcome(tmp_path, test)


def test_an_expected_warning_that_never_comes_fails_the_test(tmp_path: Path) -> None:
    assert "never logged: is dirty" in outcome(tmp_path, EXPECTS_A_WARNING.format("pass"))


def test_a_missing_tool_skips_the_test_of_a_user(tmp_path: Path) -> None:
    assert "1 skipped" in outcome(tmp_path, NEEDS_A_TOOL.format("no-such-tool"))


def test_a_missing_tool_fails_the_test_in_ci(tmp_path: Path) -> None:
    assert "no-such-tool is not installed, and CI must try it" in outcome(
        tmp_path, NEEDS_A_TOOL.format("no-such-tool"), ci=True
    )


def test_a_tool_that_is_there_lets_the_test_run(tmp_path: Path) -> None:
    assert "1 passed" in outcome(tmp_path, NEEDS_A_TOOL.format("sh"), ci=True)


def test_the_long_form_runs_more_seeds_and_says_which_failed(tmp_path: Path) -> None:
    assert "2 passed, 1 deselected" in outcome(tmp_path, IS_RANDOM)
    long = outcome(tmp_path, IS_RANDOM, "--long")
    assert "1 failed, 5 passed" in long
    assert "seed 4 (to repeat: --seed 4)" in long


def test_one_seed_can_be_asked_for(tmp_path: Path) -> None:
    assert "test_it[seed4] FAILED" in outcome(tmp_path, IS_RANDOM, "--seed", "4")


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("7-9", [7, 8, 9])])
def test_a_range_of_seeds_includes_both_its_ends(text: str, seeds: list[int]) -> None:
    assert list(conftest.seed_range(text)) == seeds
