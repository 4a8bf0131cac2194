"""`vdifs info`: what the header of an image says, and what it means."""

import click

from vdifs.chain.links import ImageRef
from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Policy
from vdifs.cli.arguments import Output, PathName, output_option, trust_option
from vdifs.cli.render.info_text import info_fields
from vdifs.cli.render.text import echo_fields, echo_json
from vdifs.report.info import describe, describe_chain, info_json

__all__ = ["info"]


@click.command(short_help="Show the header of an image and what it means.")
@click.argument("image", type=PathName())
@click.option("--backing-chain", is_flag=True, help="Also describe every backing file, top first.")
@trust_option
@output_option
def info(image: str, backing_chain: bool, trusted: tuple[str, ...], output: Output) -> None:
    """Show every field of the header of IMAGE, and what it means."""
    named = ImageName.parse(image)
    policy, path = Policy.for_image(named.path, trusted)
    with policy:
        ref = ImageRef(path, named.snapshot)
        if backing_chain:
            described = list(describe_chain(policy, ref, named.path))
        else:
            described = [describe(policy, ref, named.path)]
    if output == "json":
        values = [info_json(each) for each in described]
        echo_json(values if backing_chain else values[0])
        return
    for number, each in enumerate(described):
        if number:
            click.echo()
        echo_fields(info_fields(each))
