"""The man page vdifs(1), made from the commands as `--help` is: one source for both. Knows roff, man(7)."""

import re
import textwrap
from collections.abc import Iterator

import click

import vdifs
from vdifs.cli.group import LazyGroup

__all__ = ["man_page"]

_EXAMPLES = (
    ("Mount a directory, and take it away again:", "vdifs mount images /mnt/vdifs\nvdifs umount /mnt/vdifs"),
    ("Copy a flattened image, and what Tuesday changed:",
     "cp /mnt/vdifs/full/tuesday.qcow2 .\ncp /mnt/vdifs/delta/monday.qcow2/tuesday.qcow2 ."),
    ("The same without a mount:",
     "vdifs export tuesday.qcow2 full.qcow2\nvdifs export tuesday.qcow2 delta.qcow2 --base monday.qcow2"),
    ("In /etc/fstab, with mount.fuse.vdifs linked into /sbin:",
     "/srv/images  /mnt/vdifs  fuse.vdifs  allow_other,nofail  0  0"),
)  # fmt: skip
_SEE_ALSO = ("qemu-img(1)", "mount(8)", "fusermount3(1)", "fuse(4)")


def man_page(group: LazyGroup, ctx: click.Context) -> str:
    """Return the page, which `man -l` shows."""
    return "\n".join(_lines(group, ctx)) + "\n"


def _lines(group: LazyGroup, ctx: click.Context) -> Iterator[str]:
    yield f'.TH VDIFS 1 "" "vdifs {vdifs.__version__}" "User Commands"'
    yield from (".SH NAME", rf"vdifs \- {_escaped(_first_line(group))}")
    yield ".SH SYNOPSIS"
    for name in group.list_commands(ctx):
        yield from (f".B vdifs {_escaped(name)}", f"{_usage(*_command(group, ctx, name))}", ".br")
    yield from (".SH DESCRIPTION", *_paragraphs(group.help or ""))
    yield ".SH COMMANDS"
    for name in group.list_commands(ctx):
        command, inner = _command(group, ctx, name)
        yield f".SS vdifs {_escaped(name)} {_usage(command, inner)}"
        yield from _paragraphs(command.help or "")
        for param in command.params:
            record = param.get_help_record(inner) if isinstance(param, click.Option) else None
            if record is not None and param.name != "debug":
                yield from _option(*record)
    yield from (".SH OPTIONS", ".PP", r"Of vdifs itself; \-\-debug and \-\-help of every command too:")
    for param in group.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            yield from _option(*record)
    yield from (".SH EXIT STATUS", *_paragraphs((group.epilog or "").removeprefix("Exit status: ")))
    yield ".SH EXAMPLES"
    for text, commands in _EXAMPLES:
        yield from (".PP", _escaped(text), ".PP", ".in +4n", ".nf", *map(_escaped, commands.split("\n")), ".fi", ".in")
    yield from (".SH SEE ALSO", ", ".join(rf"\fB{_escaped(each[:-3])}\fR{each[-3:]}" for each in _SEE_ALSO))


def _command(group: LazyGroup, ctx: click.Context, name: str) -> tuple[click.Command, click.Context]:
    command = group.get_command(ctx, name)
    assert command is not None, "the group lists its own commands"
    return command, click.Context(command, info_name=name, parent=ctx)


def _usage(command: click.Command, ctx: click.Context) -> str:
    return " ".join(rf"\fI{_escaped(piece)}\fR" for piece in command.collect_usage_pieces(ctx))


def _option(names: str, text: str) -> Iterator[str]:
    yield from (".TP", rf"\fB{_escaped(names)}\fR", _escaped(text))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        yield from (".PP", _escaped(" ".join(paragraph.split())))


def _first_line(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split()).rstrip(".").lower()


def _escaped(text: str) -> str:
    """Return text that roff shows as it is: a hyphen that can be copied, no accidental request."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)
