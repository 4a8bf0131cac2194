r"""The `-o` options of mount(8): names with `-` and `_` alike, values after `=`, commas between, `\,` for a comma."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

import click

__all__ = ["as_arguments", "known_alone"]

_IGNORED = (
    "rw", "ro", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "auto", "noauto", "user", "nouser", "users",
    "*atime", "defaults", "_netdev", "nofail", "x-*",
)  # fmt: skip
"""What mount(8) and fstab add, and what says nothing to a file system that is always read-only."""


def as_arguments(texts: Iterable[str], flags: Mapping[str, bool]) -> Iterator[str]:
    """Yield `--name` and `--name=value` for each option in `texts`. flags: the known names; True: it takes no value.

    Raises UsageError for an unknown name and for a missing value.
    """
    for option in _options_in(texts):
        name, equals, value = option.partition("=")
        long_name = name.replace("_", "-")
        if _is_ignored(name):
            continue
        if long_name not in flags:
            raise click.UsageError(f"-o {name}: no such mount option")
        if not equals and not flags[long_name]:
            raise click.UsageError(f"-o {name}: needs a value, as in {name}=VALUE")
        if equals and flags[long_name]:
            raise click.UsageError(f"-o {name}: takes no value, so leave out ={value}")
        yield f"--{long_name}{equals}" + value.replace("\\,", ",")


def known_alone(texts: Iterable[str], flags: Mapping[str, bool]) -> list[str]:
    """Return the options in `texts`, one each, without those that are unknown: what `mount -s` asks for."""
    return [option for option in _options_in(texts) if option.partition("=")[0].replace("_", "-") in flags]


def _options_in(texts: Iterable[str]) -> Iterator[str]:
    return (option for text in texts for option in re.split(r"(?<!\\),", text) if option)


def _is_ignored(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _IGNORED)
