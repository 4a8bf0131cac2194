"""`vdifs doctor`: is this machine able to mount, and what would be in force?"""

from dataclasses import asdict

import click

from vdifs.cli.arguments import Output, output_option
from vdifs.cli.render.text import echo_json
from vdifs.mount.daemon.confinement import possible_confinement
from vdifs.mount.daemon.doctor import State, examine, versions

__all__ = ["doctor"]


@click.command(short_help="Say whether this machine is able to mount.")
@output_option
@click.pass_context
def doctor(ctx: click.Context, output: Output) -> None:
    """Say whether this machine is able to mount, and what would confine the daemon.

    A warning says what will be missing. An error keeps you from mounting; then the exit status is 1.
    """
    findings = list(examine())
    if output == "json":
        checks = [{"name": each.name, "state": str(each.state), "message": each.message} for each in findings]
        echo_json({"checks": checks, "confinement": asdict(possible_confinement()), "versions": versions()})
    else:
        for each in findings:
            click.echo(f"{each.state}: {each.name}: {each.message}")
        click.echo("versions: " + ", ".join(f"{name} {number or 'missing'}" for name, number in versions().items()))
    if any(each.state is State.ERROR for each in findings):
        ctx.exit(1)
