"""Types and options that several commands share."""

import grp
import pwd
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import click
from click.shell_completion import CompletionItem

from vdifs.output.view import PackedClusters, View

__all__ = [
    "Account",
    "Octal",
    "Output",
    "PathName",
    "Size",
    "Words",
    "check_goes_with_format",
    "format_option",
    "live_option",
    "output_option",
    "packed_option",
    "trust_option",
]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"([0-9]+)([kmgt]?)", re.IGNORECASE)

_MAX_ID = (1 << 32) - 2  # -1 is no user, chown(2)

Output = str
"""`human` or `json`."""


class Size(click.ParamType[int]):
    """A number of bytes as QEMU writes it: `65536`, `64k`, `2M`. Whether it makes sense is for others to say."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _SIZE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no size such as 65536, 64k or 2M.", param, ctx)
        return int(match[1]) * _UNITS[match[2].lower()]


class PathName(click.ParamType[str]):
    """The name of a file or folder. Any text but none is one: what opens it says what is wrong with it."""

    name = "PATH"

    def __init__(self, kind: Literal["file", "dir"] = "file") -> None:
        """Have the shell complete names of that kind."""
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("the name is empty.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        return [CompletionItem(incomplete, type=self.kind)]


class Octal(click.ParamType[int]):
    """Permission bits: `022`."""

    name = "OCTAL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if re.fullmatch("[0-7]{1,9}", str(value)) is None:
            self.fail(f"{value!r} is no octal number such as 022.", param, ctx)
        return int(value, 8)


class Words(click.ParamType[tuple[str, ...]]):
    """Some of a few words, one or more, with commas between, or colons: commas separate what stands after `-o`."""

    name = "LIST"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        given = re.split("[,:]", str(value))
        for each in given:
            if each not in self.words:
                self.fail(f"{each!r} is none of {', '.join(self.words)}.", param, ctx)
        return tuple(dict.fromkeys(given))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        before = incomplete[: max(incomplete.rfind(","), incomplete.rfind(":")) + 1]
        return [CompletionItem(before + word) for word in self.words if (before + word).startswith(incomplete)]


class Account(click.ParamType[int]):
    """A user or a group, by number or by name."""

    def __init__(self, kind: Literal["user", "group"]) -> None:
        self.kind = kind
        self.name = kind.upper()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if re.fullmatch("[0-9]{1,10}", text):
            number = int(text)
        else:
            look_up: Callable[[str], int] = _user if self.kind == "user" else _group
            try:
                number = look_up(text)
            except (KeyError, ValueError):
                self.fail(f"{value!r} is no {self.kind} here, and no number.", param, ctx)
        if number > _MAX_ID:
            self.fail(f"{value} is more than {_MAX_ID}, the highest there is.", param, ctx)
        return number


def _user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def check_goes_with_format(view: View, base: str | None, cluster_size: int | None, extended_l2: bool) -> None:
    """Raise UsageError for a format but qcow2 together with a base or a kind of cluster, of which it has none."""
    if view != "qcow2" and (base is not None or cluster_size is not None or extended_l2):
        raise click.UsageError(f"--format {view} goes with neither --base nor --cluster-size nor --extended-l2")


format_option = click.option("--format", "view", type=click.Choice(get_args(View)), default="qcow2", show_default=True)

output_option = click.option(
    "--output",
    type=click.Choice(["human", "json"]),
    default="human",
    show_default=True,
    help="How to write the answer.",
)

packed_option = click.option(
    "--packed",
    type=click.Choice(get_args(PackedClusters)),
    default="keep",
    show_default=True,
    help="What becomes of compressed clusters; keep: they stay as they are, where the output can hold them.",
)

live_option = click.option(
    "--live",
    type=click.Choice(["refuse", "allow"]),
    default="refuse",
    show_default=True,
    help="What to do with an image that a virtual machine is writing; allow: read it until it changes.",
)

trust_option = click.option(
    "--trust",
    "trusted",
    type=PathName("dir"),
    metavar="DIR",
    multiple=True,
    help="Also follow backing files beneath DIR. May be given several times.",
)
