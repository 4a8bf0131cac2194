"""What `vdifs info` tells of an image file: its header, what it means, and the chain as the headers name it.

Reads headers only, and opens nothing but the file asked for, and what parts it lies in, unless its chain is asked for.
Loads no numpy.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from vdifs.chain.access import Permission
from vdifs.chain.links import (
    Fault,
    ImageRef,
    backing_of,
    cannot_be_opened,
    data_files_of,
    read_as,
    resolve,
    said_of_file,
)
from vdifs.chain.members import open_parent
from vdifs.chain.ownership import check_owner, folders_below_root
from vdifs.chain.policy import Policy
from vdifs.errors import PolicyError, VdifsError
from vdifs.formats.image_format import Description, Front, HasParts, Metadata
from vdifs.formats.registry import FORMATS, USUAL, probed
from vdifs.pace import give_way
from vdifs.storage.host_file import HostFile
from vdifs.wording import json_name

__all__ = ["Described", "describe", "describe_chain", "info_json"]

_PART = "data file"


@dataclass(frozen=True, slots=True)
class Described:
    """One image file. name: as its user or its overlay names it.

    disk_size: bytes that it takes on disk with its parts. missing: why some of these are not counted.
    """

    name: str
    metadata: Metadata
    description: Description
    file_length: int
    disk_size: int
    identity: tuple[int, int]
    backing: ImageRef | None
    backing_problem: VdifsError | None
    missing: VdifsError | None = None

    @property
    def format(self) -> str:
        """What it is read as."""
        return self.metadata.format.name

    @property
    def full_backing_name(self) -> str | None:
        """The backing file's name as seen from the working directory, if this one's is; a protocol's as it stands."""
        if self.metadata.backing is None:
            return None if self.metadata.parent is None else self.metadata.parent.said
        name = self.metadata.backing.name
        if ":" in name.split("/", 1)[0]:  # path_has_protocol in QEMU
            return name
        return os.path.join(os.path.dirname(self.name), name)

    @property
    def warnings(self) -> list[str]:
        """What its user should know."""
        problems = [str(each) for each in (self.backing_problem, self.missing) if each is not None]
        return [*self.description.warnings(), *problems]


def describe(policy: Policy, ref: ImageRef, name: str) -> Described:
    """Return the description of one file, or of its internal snapshot. name: what it is called.

    A file that is stated to have a format which is not read is described if it is a qcow2; where no format is stated,
    its name may say that it is raw, even if an image names it: nothing but its length is told then.
    """
    if ref.stated is not None and ref.stated not in FORMATS:
        ref = ref._replace(stated=USUAL)
    file = policy.open(ref.path)
    try:
        front = Front(file)
        image_format = read_as(
            ref,
            lambda: probed(front, ref.stated),
            lambda fault: said_of_file(file.name, fault, ref.stated),
            by_name=ref.stated is None,
        )
        metadata = image_format.read(front, corrupt_too=True)
        status = file.status
        description = metadata.describe(file, ref.snapshot)
        disk_size, missing = _disk_size(policy, ref.path, file, metadata)
    finally:
        file.close()
    backing, problem = None, None
    try:
        backing = backing_of(policy, ref.path, metadata)
    except PolicyError as error:
        problem = error
    identity = status.st_dev, status.st_ino
    return Described(name, metadata, description, status.st_size, disk_size, identity, backing, problem, missing)


def _disk_size(policy: Policy, path: str, file: HostFile, metadata: Metadata) -> tuple[int, VdifsError | None]:
    """Return what the image PATH takes on disk with its parts, each once, and why not all of them are counted.

    An external data file is no part, as for qemu-img: the header tells of it by itself.
    """
    blocks = {(file.status.st_dev, file.status.st_ino): file.status.st_blocks}
    missing = None
    try:
        for each in data_files_of(policy, path, metadata) if isinstance(metadata.format, HasParts) else ():
            status = _status_of_part(policy, each, file)
            blocks[status.st_dev, status.st_ino] = status.st_blocks
            give_way()
    except VdifsError as error:
        missing = cannot_be_opened(file.name, _PART, error)
    return sum(blocks.values()) * 512, missing


def _status_of_part(policy: Policy, path: str, namer: HostFile) -> os.stat_result:
    """Return what stat tells of the file PATH. Raises what keeps it from being used, as opening the image does."""
    file = policy.open(path)
    try:
        permissions = [Permission.of(file.fd, file.status), *folders_below_root(policy, path)]
        check_owner(namer.name, namer.status.st_uid, _PART, file.name, permissions)
        return file.status
    finally:
        file.close()


def describe_chain(policy: Policy, ref: ImageRef, name: str) -> Iterator[Described]:
    """Yield the descriptions of an image and of all its backing files, top first. name: what the first is called."""
    return resolve(ref, _Describing(policy, name))


@dataclass(frozen=True, slots=True)
class _Describing:
    """Descriptions of files as the lookup of a chain. name: what its user calls the first of them."""

    policy: Policy
    name: str

    def find(self, ref: ImageRef, above: Described | None) -> tuple[ImageRef, Described]:
        """Return the description of a file, which is called as it is named by the one above."""
        if ref.parent is not None and above is not None:
            with ExitStack() as opened:
                path, _ = open_parent(self.policy, ref.path, ref.parent, opened)
            below = os.path.relpath(f"/{path}", f"/{os.path.dirname(ref.path)}")
            found = ImageRef(path, stated=ref.stated)
            return found, describe(self.policy, found, os.path.join(os.path.dirname(above.name), below))
        name = self.name if above is None else above.full_backing_name or ref.path
        return ref, describe(self.policy, ref, name)

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


def info_json(image: Described) -> dict[str, Any]:
    """Return what `qemu-img info --output=json` says of an image, and all else that is known of it."""
    value: dict[str, Any] = {
        "virtual-size": image.description.virtual_size,
        **json_name("filename", image.name),
        "format": image.format,
        "actual-size": image.disk_size,
        "dirty-flag": False,
        **image.description.as_qemu(),
    }
    if image.description.label is not None:
        value |= json_name("snapshot", image.description.label)
    if (backing := image.metadata.backing) is not None:
        value |= json_name("backing-filename", backing.name)
        value |= json_name("full-backing-filename", image.full_backing_name or backing.name)
        if backing.format is not None:
            value |= json_name("backing-filename-format", backing.format)
    if (parent := image.metadata.parent) is not None:
        value |= json_name("backing-filename", parent.said)
        value |= {"backing-filename-format": parent.format, "backing-identities": sorted(parent.identities)}
    if (header := image.description.all_fields()) is not None:
        value["header"] = header
    value["file-length"] = image.file_length
    value["warnings"] = image.warnings
    return value
