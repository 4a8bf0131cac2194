"""`vdifs info`: what the header of an image says, and what it means.

Reads headers only, and opens nothing but the file asked for, unless --backing-chain asks for its backing files too.
"""

import os
from dataclasses import dataclass
from typing import Any

import click

from vdifs.chain.links import Fault, ImageRef, backing_of, read_as, resolve, said_of_file
from vdifs.chain.naming import ImageName
from vdifs.chain.policy import Policy
from vdifs.cli.arguments import Output, PathName, output_option, trust_option
from vdifs.cli.render.extras_text import bitmap_fields, bitmaps_json, snapshot_fields, snapshots_json
from vdifs.cli.render.header_text import header_fields, header_json, qemu_format_specific
from vdifs.cli.render.text import echo_fields, echo_json, json_name, size_text, size_with_bytes
from vdifs.errors import PolicyError, VdifsError
from vdifs.formats.qcow2.bitmaps import Bitmap
from vdifs.formats.qcow2.header import Header, Incompatible
from vdifs.formats.qcow2.metadata import find_snapshot, read_bitmaps, read_header, read_snapshots
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
    backing: ImageRef | None
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
        ref, lookup = ImageRef(path, named.snapshot), _Describing(policy, named.path)
        described = list(resolve(ref, lookup, deepest=None)) if backing_chain else [lookup.find(ref, None)]
    if output == "json":
        values = [described_as_json(each) for each in described]
        echo_json(values if backing_chain else values[0])
        return
    for number, each in enumerate(described):
        if number:
            click.echo()
        echo_fields(_as_fields(each))


@dataclass(frozen=True, slots=True)
class _Describing:
    """Descriptions of files as the lookup of a chain. name: what its user calls the first of them."""

    policy: Policy
    name: str

    def find(self, ref: ImageRef, above: Described | None) -> Described:
        """Return the description of a file, which is called as it is named by the one above."""
        name = self.name if above is None else above.full_backing_name or ref.path
        return describe(self.policy, ref, name)

    def identity(self, described: Described) -> tuple[int, int]:
        """Return the device and the inode number of a file."""
        return described.identity

    def read(self, _ref: ImageRef, described: Described, _above: Described | None) -> Described:
        """Return the description, which is of what the file holds in the format that it is read in."""
        return described

    def backing(self, described: Described) -> ImageRef | None:
        """Return the backing file that a file names. Raises why it cannot be found."""
        if described.backing_problem is not None:
            raise described.backing_problem
        return described.backing

    def refusal(self, fault: Fault, ref: ImageRef, described: Described, _above: Described | None) -> VdifsError:
        """Return the error for a file, said of it as it was named."""
        return said_of_file(described.name, fault, ref.stated)


def describe(policy: Policy, ref: ImageRef, name: str) -> Described:
    """Return the description of one file, or of its internal snapshot. name: what it is called.

    A file that is stated to have a format which is not read is described if it is a qcow2; where no format is stated,
    its name may say that it is raw, even if an image names it: nothing but its length is told then.
    """
    if ref.stated not in (None, "raw"):
        ref = ref._replace(stated="qcow2")
    file = policy.open(ref.path)
    try:
        header = read_as(
            ref,
            lambda: read_header(file, corrupt_too=True),
            lambda fault: said_of_file(file.name, fault, ref.stated),
            by_name=ref.stated is None,
        )
        status = file.status
        snapshots = read_snapshots(file, header) if header else ()
        bitmaps = read_bitmaps(file, header) if header else ()
        label, chosen = (None, None) if ref.snapshot is None else find_snapshot(file, snapshots, ref.snapshot)
    finally:
        file.close()
    backing, problem = None, None
    if header is not None:
        try:
            backing = backing_of(policy, ref.path, header)
        except PolicyError as error:
            problem = error
    disk_size, identity = status.st_blocks * 512, (status.st_dev, status.st_ino)
    return Described(
        name, header, status.st_size, disk_size, identity, backing, problem, snapshots, bitmaps, label, chosen
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
