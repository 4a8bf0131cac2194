"""Types and options that several commands share."""

import re
from typing import Any

import click

__all__ = ["ClusterSize", "Output", "output_option", "trust_option"]

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)([bkmg]?)(?:i?b)?", re.IGNORECASE)

Output = str
"""`human` or `json`."""


class ClusterSize(click.ParamType[int]):
    """A cluster size as QEMU writes it: `65536`, `64k`, `2M`."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value)
        size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
        if not 512 <= size <= 2 << 20 or size & (size - 1):
            self.fail(f"{value!r} is no power of two between 512 and 2M.", param, ctx)
        return size


output_option = click.option(
    "--output",
    type=click.Choice(["human", "json"]),
    default="human",
    show_default=True,
    help="How to write the answer.",
)

trust_option = click.option(
    "--trust",
    "trusted",
    metavar="DIR",
    multiple=True,
    help="Also follow backing files beneath DIR. May be given several times.",
)
