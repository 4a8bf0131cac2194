"""`--help`, `vdifs help`, the man page, completion in three shells: all from one source, and all of it there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.cli.conftest import COMMAND, Vdifs
from tests.conftest import require_tool
from vdifs.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]


def command_of(name: str) -> click.Command:
    with click.Context(cli) as ctx:
        command = cli.get_command(ctx, name)
    assert isinstance(command, click.Command)
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_its_help_option(name: str, vdifs: Vdifs) -> None:
    status, out, err = vdifs("help", name)
    assert (status, err) == (0, "")
    assert vdifs(name, "--help") == (0, out, "")
    assert out.startswith(f"Usage: vdifs {name} ")
    for param in command_of(name).params:
        assert all(
            word in out for word in (param.opts if isinstance(param, click.Option) else [param.human_readable_name])
        )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_is_the_one_that_is_listed(name: str, vdifs: Vdifs) -> None:
    assert command_of(name).short_help == COMMANDS[name].summary
    assert COMMANDS[name].summary in vdifs("help").out


def test_help_alone_is_the_help(vdifs: Vdifs) -> None:
    assert vdifs("help") == vdifs("--help")


def test_every_option_has_a_help_text() -> None:
    for name in COMMANDS:
        options = [param for param in command_of(name).params if isinstance(param, click.Option)]
        assert [option.opts for option in options if not option.help and option.name != "view"] == []


@pytest.mark.parametrize("words", [["frob"], ["--man", "mount"]])
def test_wrong_uses_of_help_are_one_line(words: list[str], vdifs: Vdifs) -> None:
    status, out, err = vdifs("help", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)


@pytest.fixture
def page(tmp_path: Path, vdifs: Vdifs) -> Path:
    status, out, err = vdifs("help", "--man")
    assert (status, err) == (0, "")
    path = tmp_path / "vdifs.1"
    path.write_text(out)
    return path


def shown(page: Path) -> str:
    require_tool("man")
    environment = {**os.environ, "MANWIDTH": "500", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8", "MANROFFOPT": "-c"}
    command = ["man", "--warnings", "--nh", "--nj", "-l", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)


def test_the_man_page_has_every_command_option_and_word_of_the_help(page: Path) -> None:
    text = " ".join(shown(page).split())
    for name in COMMANDS:
        command = command_of(name)
        assert f"vdifs {name} " in text
        assert all(" ".join(part.split()) in text for part in (command.help or "").split("\n\n"))
        for param in command.params:
            if isinstance(param, click.Option):
                assert all(word in text for word in param.opts)
                assert (param.help or "") in text


def test_the_man_page_is_one_that_man_db_can_index(page: Path) -> None:
    lexgrog = require_tool("lexgrog")
    done = subprocess.run([lexgrog, str(page)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert '"vdifs - ' in done.stdout


def test_hyphens_of_the_man_page_can_be_copied(page: Path) -> None:
    text = page.read_text()
    assert r"\-\-cluster\-size" in text
    assert not re.search(r"(?<!\\)-", text.partition(".SH SYNOPSIS")[2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to complete in, with a `vdifs` in front of everything on the path."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/vdifs"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{COMMAND[2]}\n")
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/image.qcow2").touch()
    return tmp_path


BASH = """
eval "$(vdifs completion bash)"
words=($1)
[ "${1% }" = "$1" ] || words+=("")
COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1)) COMP_LINE=$1 COMP_POINT=${#1}
function compopt { echo "compopt $*"; }
complete -p vdifs >/dev/null || exit 1
_vdifs_completion vdifs
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
autoload -U compinit && compinit -u -D
eval "$(vdifs completion zsh)"
[ "$_comps[vdifs]" = _vdifs_completion ] || exit 1
words=(${=1}) CURRENT=$#words
[ "${1% }" = "$1" ] || { words+=(""); CURRENT=$#words }
function compadd { print -l -- $completions }
function _describe { print -l -- $completions_with_descriptions }
function _path_files { print compopt -f }
_vdifs_completion
"""
FISH = """
vdifs completion fish | source
complete -C "$argv[1]"
"""


def completed(shell: str, line: str, folder: Path) -> list[str]:
    """Return what the shell offers at the end of `line`."""
    program = require_tool(shell)
    script = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
    words = {"bash": ["--norc", "-c", script, "bash"], "zsh": ["-f", "-c", script, "zsh"], "fish": ["-N", "-c", script]}
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        [program, *words[shell], line],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_and_options_are_completed(shell: str, folder: Path) -> None:
    def offered(line: str) -> set[str]:
        return {re.split(r"[\t:]", each)[0] for each in completed(shell, line, folder)}

    assert {"mount", "measure", "map"} <= offered("vdifs m")
    assert "list" not in offered("vdifs m")
    assert {"--cluster-size", "--umask"} <= offered("vdifs mount --")
    assert {"refuse", "allow"} <= offered("vdifs mount --live ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("line", ["vdifs export ", "vdifs info im", "vdifs mount --log-file im", "vdifs map --base im"])
def test_file_names_are_completed(shell: str, line: str, folder: Path) -> None:
    offered = completed(shell, line, folder)
    if shell == "fish":
        assert "image.qcow2" in offered
    else:
        assert any(each.startswith("compopt") for each in offered)


def test_completing_a_command_imports_no_command(folder: Path) -> None:
    """It would take three times as long."""
    script = f"import atexit, sys\natexit.register(lambda: print('numpy' in sys.modules))\n{COMMAND[2]}"
    environment = {**os.environ, "_VDIFS_COMPLETE": "bash_complete", "COMP_WORDS": "vdifs m", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.splitlines() == ["plain,mount", "plain,map", "plain,measure", "False"]
