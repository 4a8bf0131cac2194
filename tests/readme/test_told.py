"""What the pages tell of commands, options and the library is what there is, no more and no less."""

import inspect
import re
from pathlib import Path

import click

import vdifs
from tests.cli.test_help import command_of
from tests.readme.examples import README
from vdifs.cli.main import COMMANDS

SPECIFICATION = README.parent / "docs/specification.md"


def section(page: Path, heading: str) -> str:
    """Return what stands below a heading, down to the next one of its rank or higher."""
    text = page.read_text()
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start is not None
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def told_options(text: str) -> set[str]:
    """Return the options that a text names; `--uid/--gid` and `--include/--exclude` are two each."""
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


def options_of(*names: str) -> set[str]:
    """Return the long options of commands."""
    options = [each for name in names for each in command_of(name).params if isinstance(each, click.Option)]
    return {word for option in options for word in option.opts if word.startswith("--")}


def test_the_specification_tells_every_command_and_option_and_no_other() -> None:
    told = section(SPECIFICATION, "3 The command line")
    assert re.findall(r"^\| `vdifs ([a-z]+)", told, re.MULTILINE) != []
    assert set(re.findall(r"^\| `vdifs ([a-z]+)", told, re.MULTILINE)) == set(COMMANDS)
    assert told_options(told) - {"--help"} == options_of(*COMMANDS) - {"--foreground", "--help"}


def test_the_readme_tells_every_option_of_a_mount_and_no_other() -> None:
    told = "".join(re.findall(r"^\| (`--[^|]*)\|", section(README, "Options of a mount"), re.MULTILINE))
    assert told_options(told) == options_of("mount") - {"--foreground", "--debug"}


def test_the_readme_tells_every_command() -> None:
    told = re.findall(r"^\| `vdifs ([a-z]+)", section(README, "Command line"), re.MULTILINE)
    assert sorted(told) == sorted(COMMANDS)


def test_the_specification_tells_how_the_library_opens() -> None:
    (told,) = re.findall(
        r"^    vdifs\.open\((.*?)\)$", section(SPECIFICATION, "4 The library"), re.MULTILINE | re.DOTALL
    )
    parameters = inspect.signature(vdifs.open).parameters.values()
    assert parameters
    expected = ["path", "*", *(f"{each.name}={each.default!r}" for each in list(parameters)[1:])]
    assert " ".join(told.split()).replace('"', "'") == ", ".join(expected)
