"""The command line as a whole, and one of the two boundaries that turn exceptions into something else: line and status.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A failure is `vdifs: PATH: what is wrong: what to do` on
standard error.
"""

import errno
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import click

import vdifs
from vdifs.cli.group import LazyGroup, Place
from vdifs.errors import Interrupted, VdifsError, printable

__all__ = ["cli", "main", "run"]

# One thread is enough for what numpy does here, and it starts in a third of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS = {
    "mount": Place("vdifs.cli.commands.mount", "mount", "Mount the images of a directory."),
    "umount": Place("vdifs.cli.commands.umount", "umount", "Unmount, and wait until the daemon has gone."),
    "list": Place("vdifs.cli.commands.list", "list_images", "Show the chains of a directory as a tree."),
    "info": Place("vdifs.cli.commands.info", "info", "Show the header of an image and what it means."),
    "map": Place("vdifs.cli.commands.map", "show_map", "Show which part of the disk comes from which file."),
    "measure": Place("vdifs.cli.commands.measure", "measure", "Show the exact size of a synthetic file."),
    "check": Place("vdifs.cli.commands.check", "check", "List every problem in the chains of a directory."),
    "export": Place(
        "vdifs.cli.commands.export", "export", "Write a full image, a delta or raw contents to a file or pipe."
    ),
    "status": Place("vdifs.cli.commands.status", "status", "Show what a running mount serves."),
    "doctor": Place("vdifs.cli.commands.doctor", "doctor", "Say whether this machine is able to mount."),
    "completion": Place(
        "vdifs.cli.commands.completion", "completion", "Print what completes command lines in a shell."
    ),
    "help": Place("vdifs.cli.commands.help", "show_help", "Show the help of a command, or all of it as a man page."),
}
_EXIT_STATUS = (
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A failure is one line on standard error: the file, "
    "what is wrong, what to do."
)


@click.command(
    cls=LazyGroup,
    places=COMMANDS,
    helper=Place("vdifs.cli.commands.mount_helper", "helper", "Mount as mount(8) asks."),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_STATUS,
)
@click.version_option(vdifs.__version__, prog_name="vdifs", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Show qcow2 chains as files that are computed when they are read: flattened, as deltas, or as raw disks."""
    if ctx.invoked_subcommand != "mount":  # a mount decides itself where it logs
        logging.basicConfig(format="vdifs: %(message)s")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line in `args`, by default that of the process, and return the exit status."""
    return run(cli, args, "vdifs")


def run(command: click.Command, args: Sequence[str] | None, name: str) -> int:
    """Run `command`, which its user called `name`, and return the exit status. Nothing is raised."""
    logging.getLogger("vdifs").setLevel(logging.WARNING)
    _stand_in_for_closed_streams()
    _show_any_name()
    try:
        status = command.main(args, prog_name=name, standalone_mode=False)
    except (Exception, KeyboardInterrupt, Interrupted) as error:  # noqa: BLE001 - the boundary
        if logging.getLogger("vdifs").isEnabledFor(logging.DEBUG):
            traceback.print_exception(error)
        message, status = _verdict(error)
        if message:
            _complain(message)
    _leave_nothing_unwritten()
    return status or 0


def _verdict(error: BaseException) -> tuple[str, int]:
    """Return the line to show, empty for none, and the exit status."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return "", 2
        case click.UsageError():
            return _usage_message(error), 2
        case Interrupted():
            return "interrupted", 128 + error.number
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", 128 + signal.SIGINT
        case VdifsError(errno=errno.EPIPE):  # the reader of our output has had enough, which click knows how to end
            return "", 1
        case VdifsError():
            return str(error), error.exit_code
        case OSError(filename=None, errno=errno.ENOENT) if not _has_working_directory():
            return "the working directory: it has been removed: change to another with cd, or give absolute paths", 1
        case OSError(filename=None):
            _drop_output()
            return f"standard output: {error.strerror or error}: make room, or write elsewhere", 1
        case OSError():
            return (
                f"{printable(error.filename)}: {error.strerror or error}: see that it is there and may be used",
                1,
            )
        case _:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            return f"internal error: {text}: run the command again with --debug and report what it says", 1


def _usage_message(error: click.UsageError) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    path = error.ctx.command_path if error.ctx else "vdifs"
    command = path.removeprefix("vdifs").strip()
    where = f"{command}: " if command else ""
    return f"{where}{text[:1].lower()}{text[1:]}: see '{path} --help'"


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _complain(message: str) -> None:
    """Write the line on standard error, if there is one that takes it."""
    try:
        click.echo(f"vdifs: {message}", err=True)
    except OSError:
        pass  # the exit status says it


def _leave_nothing_unwritten() -> None:
    """Drop what standard error does not take, as its reader has gone: Python would end with a status of its own."""
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def _stand_in_for_closed_streams() -> None:
    """Put something where standard streams were closed (`>&-`), or the next file that is opened would be taken for one.

    Into what stands in for standard output nothing can be written, so that a command whose result is lost says so.
    """
    if sys.__stdin__ is None:
        _open_nowhere(0, os.O_RDONLY)
    if sys.__stdout__ is None:
        sys.stdout = open(_open_nowhere(1, os.O_RDONLY), "w", closefd=False)  # noqa: SIM115 - for as long as we live
    if sys.__stderr__ is None:
        sys.stderr = open(_open_nowhere(2, os.O_WRONLY), "w", closefd=False)  # noqa: SIM115


def _open_nowhere(number: int, flags: int) -> int:
    opened = os.open(os.devnull, flags)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return number


def _show_any_name() -> None:
    """Let a terminal that cannot show a character show its code instead of ending the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Give the rest of the output, which could not be written, a place to go, or Python complains of it at its end."""
    _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
