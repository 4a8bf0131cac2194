"""`vdifs info`: what the header of an image says, and what it means.

Reads headers only, and opens nothing but the file asked for, unless --backing-chain asks for its backing files too.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from vdifs.chain.members import RAW_SUFFIXES, find_snapshot, read_bitmaps, read_header, read_snapshots
from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Policy
from vdifs.cli.arguments import Output, PathName, output_option, trust_option
from vdifs.cli.render.extras_text import bitmap_fields, bitmaps_json, snapshot_fields, snapshots_json
from vdifs.cli.render.header_text import header_fields, header_json, qemu_format_specific
from vdifs.cli.render.text import echo_fields, echo_json, json_name, size_text, size_with_bytes
from vdifs.errors import ChainError, FormatError, PolicyError, VdifsError
from vdifs.formats.qcow2.bitmaps import Bitmap
from vdifs.formats.qcow2.header import NOT_QCOW2, Header, Incompatible
from vdifs.formats.qcow2.snapshots import Snapshot
from vdifs.units import SECTOR, round_down, round_up

__all__ = ["describe", "described_as_json", "info"]


@dataclass(frozen=True, slots=True)
class Described:
    """One image file. name: as its user or its overlay names it. header: None for a raw file."""

    name: str
    header: Header | None
    file_length: int
    disk_size: int
    identity: tuple[int, int]
    backing_path: str | None
    backing_problem: VdifsError | None
    snapshots: tuple[Snapshot, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()
    label: str | None = None
    snapshot: Snapshot | None = None

    @property
    def virtual_size(self) -> int:
        """Bytes of guest disk."""
        if self.header is None:
            return round_up(self.file_length, SECTOR)
        if self.snapshot is None or self.snapshot.disk_size is None:
            return self.header.virtual_size
        return round_down(self.snapshot.disk_size, SECTOR)

    @property
    def full_backing_name(self) -> str | None:
        """The backing file's name as seen from the working directory, if this one's is; a protocol's as it stands."""
        if self.header is None or self.header.backing_file is None:
            return None
        name = self.header.backing_file
        if ":" in name.split("/", 1)[0]:  # path_has_protocol in QEMU
            return name
        return os.path.join(os.path.dirname(self.name), name)

    @property
    def warnings(self) -> list[str]:
        """What its user should know."""
        found = []
        if self.header is not None:
            if self.header.corrupt:
                found.append("marked corrupt: not served; repair it with 'qemu-img check -r all' first")
            if self.header.incompatible_features & Incompatible.DIRTY:
                found.append("marked dirty: not closed properly; its refcounts may be wrong, its data are served")
            if self.header.backing_file is not None and self.header.backing_format is None:
                found.append("no backing file format stated: the backing file is followed only if it is a qcow2")
        if self.backing_problem is not None:
            found.append(str(self.backing_problem))
        return found


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
        top = describe(policy, path, named.path, None, named.snapshot)
        described = list(_chain(policy, top)) if backing_chain else [top]
    if output == "json":
        values = [described_as_json(each) for each in described]
        echo_json(values if backing_chain else values[0])
        return
    for number, each in enumerate(described):
        if number:
            click.echo()
        echo_fields(_as_fields(each))


def _chain(policy: Policy, described: Described) -> Iterator[Described]:
    seen: set[tuple[int, int]] = set()
    while True:
        name = described.name
        if described.identity in seen:
            raise ChainError(f"{name}: it is in its own chain: rebase one of the images that name it")
        seen.add(described.identity)
        yield described
        if described.header is None or described.header.backing_file is None:
            return
        if described.backing_path is None:
            raise described.backing_problem or ChainError(f"{name}: its backing file cannot be found")
        path, name = described.backing_path, described.full_backing_name or described.backing_path
        described = describe(policy, path, name, described.header.backing_format)


def describe(policy: Policy, path: str, name: str, stated: str | None, snapshot: str | None = None) -> Described:
    file = policy.open(path)
    try:
        header = None if stated == "raw" else read_header(file, corrupt_too=True)
        if header is None and stated != "raw" and (stated is not None or not path.endswith(RAW_SUFFIXES)):
            raise FormatError(f"{file.name}: {NOT_QCOW2}")
        status = file.status
        snapshots = read_snapshots(file, header) if header else ()
        bitmaps = read_bitmaps(file, header) if header else ()
        label, chosen = (None, None) if snapshot is None else find_snapshot(file, snapshots, snapshot)
    finally:
        file.close()
    backing_path, problem = None, None
    if header is not None and header.backing_file is not None:
        try:
            backing_path = policy.resolve(path, header.backing_file)
        except PolicyError as error:
            problem = error
    disk_size, identity = status.st_blocks * 512, (status.st_dev, status.st_ino)
    return Described(
        name, header, status.st_size, disk_size, identity, backing_path, problem, snapshots, bitmaps, label, chosen
    )


def _as_fields(image: Described) -> dict[str, object]:
    fields: dict[str, object] = {"image": image.name, "file format": "raw" if image.header is None else "qcow2"}
    if image.label is not None:
        fields["snapshot"] = image.label
    fields["virtual size"] = size_with_bytes(image.virtual_size)
    fields["file length"] = size_with_bytes(image.file_length)
    fields["disk size"] = size_text(image.disk_size)
    if image.header is not None:
        fields |= header_fields(image.header, image.full_backing_name)
        fields |= snapshot_fields(image.snapshots) | bitmap_fields(image.bitmaps)
    for number, warning in enumerate(image.warnings, 1):
        fields["warning" if len(image.warnings) == 1 else f"warning {number}"] = warning
    return fields


def described_as_json(image: Described) -> dict[str, Any]:
    value: dict[str, Any] = {
        "virtual-size": image.virtual_size,
        **json_name("filename", image.name),
        "format": "raw" if image.header is None else "qcow2",
        "actual-size": image.disk_size,
        "dirty-flag": False,
    }
    if (header := image.header) is not None:
        value["cluster-size"] = header.cluster_size
        value["dirty-flag"] = bool(header.incompatible_features & Incompatible.DIRTY)
        specific = qemu_format_specific(header)
        if image.bitmaps:
            specific["bitmaps"] = bitmaps_json(image.bitmaps)
        value["format-specific"] = {"type": "qcow2", "data": specific}
        value["hidden"] = header.hidden
        if image.snapshots:
            value["snapshots"] = snapshots_json(image.snapshots)
        if image.label is not None:
            value |= json_name("snapshot", image.label)
        if header.backing_file is not None:
            value |= json_name("backing-filename", header.backing_file)
            value |= json_name("full-backing-filename", image.full_backing_name or header.backing_file)
        if header.backing_format is not None:
            value |= json_name("backing-filename-format", header.backing_format)
        value["header"] = header_json(header)
    value["file-length"] = image.file_length
    value["warnings"] = image.warnings
    return value
