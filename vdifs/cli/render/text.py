"""How values are written: sizes for people, names for JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from vdifs.errors import printable

__all__ = [
    "age_text",
    "counted",
    "echo_field_list",
    "echo_fields",
    "echo_json",
    "json_name",
    "kept_text",
    "size_text",
    "size_with_bytes",
]

_NAMED = 5
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DAY = 86400
_AGES = (
    (365 * _DAY, "year"), (30 * _DAY, "month"), (7 * _DAY, "week"), (_DAY, "day"), (3600, "hour"), (60, "minute"),
)  # fmt: skip


def size_text(size: int) -> str:
    """Return a size as `qemu-img info` writes it: three significant digits and a binary unit."""
    value, unit = float(size), "B"
    for larger in _UNITS:
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"


def size_with_bytes(size: int) -> str:
    """Return a size in both forms."""
    return f"{size_text(size)} ({size} bytes)"


def age_text(seconds: float) -> str:
    """Return how long ago something was, in the largest unit of which there are two, or in seconds."""
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}s"
    return counted(max(0, int(seconds)), "second", "seconds")


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many}"


def kept_text(path: str, keeps: Sequence[str]) -> str:
    """Return what follows a problem of the image `path` to name the images that it keeps from being served, if more."""
    if not keeps or list(keeps) == [path]:
        return ""
    named = ", ".join(printable(each) for each in keeps[:_NAMED])
    more = f" and {len(keeps) - _NAMED} more" if len(keeps) > _NAMED else ""
    return f" (keeps {counted(len(keeps), 'image', 'images')} from being served: {named}{more})"


def json_name(key: str, name: str) -> dict[str, str]:
    """Return `name` under `key`; where it is no valid UTF-8, with U+FFFD in it and its bytes beside it, in hex."""
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "replace"), f"{key}_hex": raw.hex()}


def echo_json(value: Mapping[str, Any] | list[Any]) -> None:
    """Write `value` to standard output."""
    click.echo(json.dumps(value, indent=4))


def echo_fields(fields: Mapping[str, object]) -> None:
    """Write a line `name: value` for each field."""
    echo_field_list(fields.items())


def echo_field_list(fields: Iterable[tuple[str, object]]) -> None:
    """Write a line `name: value` for each field; a name may come more than once."""
    for name, value in fields:
        click.echo(f"{name}: {printable(str(value))}")
