"""The files that are installed as `vdifs` and `mount.fuse.vdifs`: how they find their Python, wherever they lie."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import files, version
from pathlib import Path

import pytest

from tests.mount.mounting import ROOT

COMMANDS = ("vdifs", "mount.fuse.vdifs", "mount.vdifs")
SAYS_VERSION = f"vdifs {version('vdifs')}\n"
ENV, NEWEST = "/usr/bin/env", "/usr/bin/basenc"
OLD_ENV = '#!/bin/sh\ncase $1 in -*) echo unrecognized option >&2; exit 125 ;; esac\nexec /usr/bin/env "$@"\n'


def install(folder: Path, *, first_lines: str | None = None) -> Path:
    """Copy the commands into a folder as an installer does, for a Python in that folder; return the folder."""
    folder.mkdir()
    for name in (*COMMANDS, "vdifs-python"):
        shutil.copy(ROOT / "scripts/installed" / name, folder)
    python = folder / "python"
    program(python, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    keeper = folder / "vdifs-python"
    text = keeper.read_text()
    assert text.startswith("#!python\n")  # which installers look for
    program(keeper, text.replace("#!python\n", first_lines or f"#!{python}\n", 1))
    return folder


def program(path: Path, text: str) -> None:
    path.write_bytes(os.fsencode(text))
    path.chmod(0o755)


def run(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


@pytest.mark.parametrize("name", ["bin", "with spaces  in", "a=b", "-x", "naïve \udcff", 'quote\'s "$PATH" *'])
def test_a_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    done = run(install(tmp_path / name) / "vdifs", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, SAYS_VERSION, "")


def test_words_arrive_as_they_are(tmp_path: Path) -> None:
    words = ["", " a  b ", "*", "$HOME", "'\"", "\udcff", "x=y"]
    installed = install(tmp_path / "a=b")
    program(installed / "python", '#!/bin/sh\nshift\nprintf "%s\\0" "$@"\n')
    done = subprocess.run([installed / "vdifs", *words], capture_output=True, timeout=120)
    assert done.stdout.split(b"\0") == [*map(os.fsencode, words), b""]


def test_links_lead_to_the_installation(tmp_path: Path) -> None:
    installed = install(tmp_path / "installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vdifs").symlink_to("../installed/vdifs")
    (tmp_path / "bin/images").symlink_to(tmp_path / "bin/vdifs")
    (tmp_path / "folder").symlink_to(installed)
    for command in ("bin/vdifs", "bin/images", "folder/vdifs"):
        assert run(tmp_path / command, "--version").stdout == SAYS_VERSION
    on_path = run("sh", "-c", "vdifs --version", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert on_path.stdout == SAYS_VERSION
    for word in ("bin/vdifs", "installed/vdifs"):
        assert subprocess.run([word, "--version"], cwd=tmp_path, capture_output=True).returncode == 0
    assert subprocess.run(["sh", "vdifs", "--version"], cwd=installed, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["mount.fuse.vdifs", "mount.vdifs"])
def test_the_helper_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    installed = install(tmp_path / "installed")
    (tmp_path / name).symlink_to(installed / name)
    for command in (installed / name, tmp_path / name):
        done = run(command, "--help")
        assert done.stdout.startswith(f"Usage: {name} [OPTIONS] SOURCE MOUNTPOINT\n"), done.stderr


def test_a_copy_says_that_it_should_be_a_link(tmp_path: Path) -> None:
    copy = shutil.copy(ROOT / "scripts/installed/vdifs", tmp_path)
    done = run(copy, "--version")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"vdifs: {copy}: 'vdifs-python' is not beside it: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "first_lines",
    ["#!/bin/sh\n'''exec' PYTHON \"$0\" \"$@\"\n' '''\n", "#!/usr/bin/env PYTHON\n", "#!PYTHON -s\n"],
    ids=["of a wrapper", "that looks for Python", "with an option"],
)
def test_a_first_line_that_is_no_program_is_run_as_it_is(tmp_path: Path, first_lines: str) -> None:
    installed = install(tmp_path / "bin", first_lines=first_lines.replace("PYTHON", sys.executable))
    done = run(installed / "vdifs", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, SAYS_VERSION, "")


@pytest.mark.parametrize("link", [True, False], ids=["a link", "a file"])
def test_an_env_that_cannot_have_a_signal_wait_is_not_used(tmp_path: Path, link: bool) -> None:
    """As busybox's, a link, and older ones of GNU, a file without basenc beside it."""
    installed = install(tmp_path / "bin")
    program(tmp_path / "old", OLD_ENV)
    if link:
        (tmp_path / "env").symlink_to("old")
    else:
        (tmp_path / "old").rename(tmp_path / "env")
    text = (ROOT / "scripts/installed/vdifs").read_text()
    assert text.count(ENV) == text.count(NEWEST) == 1
    newest = tmp_path / ("env" if link else "nowhere")
    program(installed / "vdifs", text.replace(ENV, str(tmp_path / "env")).replace(NEWEST, str(newest)))
    done = run(installed / "vdifs", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, SAYS_VERSION, "")


def test_no_process_is_started_on_the_way(tmp_path: Path) -> None:
    """The program is the process that was started, and what it was given is all there is in its environment."""
    installed = install(tmp_path / "bin")
    program(installed / "python", "#!/bin/sh\necho $$\nenv\n")
    given = {"PATH": "/usr/bin:/bin", "vdifs": "1"}
    with subprocess.Popen([installed / "vdifs"], stdout=subprocess.PIPE, env=given, text=True) as process:
        said, _ = process.communicate(timeout=120)
    pid, *variables = said.split()
    assert int(pid) == process.pid
    assert {each for each in variables if each.lower().startswith("vdifs")} == {"vdifs=1"}


def test_uninstalling_removes_every_command() -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    listed = {Path(file.locate()).resolve() for file in files("vdifs") or []}
    for name in (*COMMANDS, "vdifs-python"):
        assert (scripts / name).resolve() in listed
    assert {path.name for path in scripts.iterdir() if "vdifs" in path.name} == {*COMMANDS, "vdifs-python"}
