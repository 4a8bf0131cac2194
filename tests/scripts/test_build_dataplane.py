"""Compiling the data plane: one clear line where that cannot be done, and a wheel for this machine alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_tool

ROOT = Path(__file__).parents[2]
HATCHLING = "class BuildHookInterface:\n    target_name = 'wheel'\n"
INITIALIZED = """
import json
from build_dataplane import DataplaneHook
hook, data = DataplaneHook(), {"artifacts": []}
hook.target_name = %r
hook.initialize("standard", data)
print(json.dumps(data, sort_keys=True))
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is needed of a clone, not compiled yet."""
    shutil.copytree(ROOT / "vdifs/dataplane", tmp_path / "vdifs/dataplane", ignore=shutil.ignore_patterns("*.so", "_*"))
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/build_dataplane.py", tmp_path / "scripts")
    return tmp_path


def build(clone: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(clone / "scripts/build_dataplane.py"), *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)


def made(clone: Path) -> list[Path]:
    return list((clone / "vdifs/dataplane").glob("_core*"))


def test_it_is_compiled_once_and_again_when_a_source_has_changed(clone: Path) -> None:
    require_tool("gcc")
    assert (build(clone).returncode, build(clone).stderr) == (0, "")
    (module,) = made(clone)
    first = module.stat().st_mtime_ns
    assert build(clone).returncode == 0
    assert module.stat().st_mtime_ns == first
    os.utime(clone / "vdifs/dataplane/wire.h", ns=(first + 1, first + 1))
    os.utime(module, ns=(first, first))
    assert build(clone).returncode == 0
    assert module.stat().st_mtime_ns != first
    assert made(clone) == [module], "nothing else is left"


@pytest.mark.parametrize("compiler", ["no-such-compiler", "no-such-compiler -m32"])
def test_a_missing_compiler_is_one_line(clone: Path, compiler: str) -> None:
    done = build(clone, CC=compiler)
    assert done.returncode == 1
    assert done.stderr == (f"vdifs: no C compiler: '{compiler}' was not found: install gcc, or name another with CC=\n")
    assert made(clone) == []


def test_a_compiler_that_fails_leaves_what_was_there(clone: Path) -> None:
    require_tool("gcc")
    build(clone)
    (module,) = made(clone)
    before = module.read_bytes()
    (clone / "vdifs/dataplane/wire.c").write_text("no C\n")
    done = build(clone)
    assert done.returncode == 1
    assert done.stderr.endswith("vdifs: cc could not compile vdifs/dataplane: see above\n")
    assert module.read_bytes() == before


def test_a_sanitizer_is_compiled_in_and_taken_out_again(clone: Path) -> None:
    require_tool("gcc")
    said = build(clone, "--sanitizer", "address")
    assert said.stdout.startswith("LD_PRELOAD=/")
    assert said.stdout.endswith("libasan.so ASAN_OPTIONS=detect_leaks=0\n")
    (module,) = made(clone)
    assert b"__asan_init" in module.read_bytes()
    assert build(clone, "--sanitizer", "none").stdout == ""
    assert b"__asan_init" not in module.read_bytes()
    assert build(clone, "--sanitizer", "by hand").returncode == 2


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_wheel_has_the_module_and_is_for_one_kind_of_machine(clone: Path, kind: str) -> None:
    require_tool("gcc")
    plugin = clone / "scripts/hatchling/builders/hooks/plugin"
    plugin.mkdir(parents=True)
    (plugin / "interface.py").write_text(HATCHLING)
    done = subprocess.run(
        [sys.executable, "-c", INITIALIZED % kind], cwd=clone / "scripts", capture_output=True, text=True, check=True
    )
    if kind == "sdist":
        assert done.stdout == '{"artifacts": []}\n'
        return
    (module,) = made(clone)
    wanted = f'{{"artifacts": ["/{module.relative_to(clone)}"], "infer_tag": true, "pure_python": false}}\n'
    assert done.stdout == wanted
