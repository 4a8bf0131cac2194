"""Types and options that several commands share."""

import re
from typing import Any

import click

__all__ = ["Output", "Size", "live_option", "output_option", "trust_option"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"([0-9]+)([kmgt]?)", re.IGNORECASE)

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


output_option = click.option(
    "--output",
    type=click.Choice(["human", "json"]),
    default="human",
    show_default=True,
    help="How to write the answer.",
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
    metavar="DIR",
    multiple=True,
    help="Also follow backing files beneath DIR. May be given several times.",
)
