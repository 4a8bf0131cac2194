"""How answers are written to standard output, and the words for ages and for what a problem keeps from being served."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from vdifs.errors import printable
from vdifs.wording import counted

__all__ = [
    "age_text",
    "echo_field_list",
    "echo_fields",
    "echo_json",
    "kept_text",
]

_NAMED = 5
_DAY = 86400
_AGES = (
    (365 * _DAY, "year"), (30 * _DAY, "month"), (7 * _DAY, "week"), (_DAY, "day"), (3600, "hour"), (60, "minute"),
)  # fmt: skip


def age_text(seconds: float) -> str:
    """Return how long ago something was, in the largest unit of which there are two, or in seconds."""
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}s"
    return counted(max(0, int(seconds)), "second", "seconds")


def kept_text(path: str, keeps: Sequence[str]) -> str:
    """Return what follows a problem of the image `path` to name the images that it keeps from being served, if more."""
    if not keeps or list(keeps) == [path]:
        return ""
    named = ", ".join(printable(each) for each in keeps[:_NAMED])
    more = f" and {len(keeps) - _NAMED} more" if len(keeps) > _NAMED else ""
    return f" (keeps {counted(len(keeps), 'image', 'images')} from being served: {named}{more})"


def echo_json(value: Mapping[str, Any] | list[Any]) -> None:
    """Write `value` to standard output."""
    click.echo(json.dumps(value, indent=4))


def echo_fields(fields: Mapping[str, object]) -> None:
    """Write a line `name: value` for each field."""
    echo_field_list(fields.items())


def echo_field_list(fields: Iterable[tuple[str, object]]) -> None:
    """Write a line `name: value` for each field; a name may come more than once."""
    for name, value in fields:
        click.echo(f"{printable(name)}: {printable(str(value))}")  # an image may have chosen the name too
