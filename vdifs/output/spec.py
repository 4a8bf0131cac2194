"""Which synthetic file of an image is wanted: one value, validated when it is made."""

from dataclasses import dataclass
from typing import get_args

from vdifs.chain.naming import ImageName
from vdifs.errors import UsageError
from vdifs.formats.qcow2.geometry import MAX_CLUSTER_BITS, MIN_CLUSTER_BITS
from vdifs.output.arguments import choice, file_name, flag, name, number
from vdifs.output.view import PackedClusters, View

__all__ = ["OutputSpec", "check_cluster_size", "no_backing_file"]

_CLUSTER_SIZES = [1 << bits for bits in range(MIN_CLUSTER_BITS, MAX_CLUSTER_BITS + 1)]


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Which synthetic file of an image is wanted. One spec of one state of an image gives the same bytes everywhere.

    view: "qcow2", "raw" for the guest contents, or another format that holds all of them. base, of a qcow2: an ancestor
    of the image, or the image itself, for a delta; None for all guest data. A str is the PATH that it has in the chain,
    an ImageName what the user calls it. cluster_size: a power of two from 512 to 2 MiB; None for the image's own.
    backing_name, backing_format: what a delta records of its backing file; None for the base's file name, and its
    format. extended_l2: write subclusters, so that a delta holds no more than what changed; needs clusters of 16 KiB or
    more. packed: "keep" leaves packed what is a packed cluster of that size in a source, as it is; "expand" makes plain
    clusters of all.

    Integers, truth values and names may be those of other libraries, and become Python's. Raises UsageError for a
    value that is wrong under any circumstances, alone or beside the others.
    """

    view: View = "qcow2"
    base: str | ImageName | None = None
    cluster_size: int | None = None
    backing_name: str | None = None
    extended_l2: bool = False
    backing_format: str | None = None
    packed: PackedClusters = "keep"

    def __post_init__(self) -> None:
        choice("view", self.view, get_args(View))
        choice("packed", self.packed, get_args(PackedClusters))
        if isinstance(self.base, ImageName):
            file_name("base", self.base.path)
        elif self.base is not None:
            self._set("base", file_name("base", self.base))
        if self.cluster_size is not None:
            self._set("cluster_size", number("cluster_size", self.cluster_size))
        self._set("backing_name", name("backing_name", self.backing_name))
        self._set("backing_format", name("backing_format", self.backing_format))
        self._set("extended_l2", flag("extended_l2", self.extended_l2))
        self._check()

    def _check(self) -> None:
        if self.view != "qcow2" and self.base is not None:
            raise UsageError(f"a {self.view} view has no base", remedy="leave out the base, or ask for a qcow2")
        if self.cluster_size is not None:
            check_cluster_size(self.cluster_size)
        if self.backing_name is not None and self.base is None:
            raise no_backing_file()

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)


def check_cluster_size(size: int) -> None:
    """Raise UsageError unless clusters may be of `size` bytes."""
    if size not in _CLUSTER_SIZES:
        raise UsageError(f"cluster size {size}", remedy="give a power of two from 512 to 2097152")


def no_backing_file() -> UsageError:
    """Return the error for a backing name where nothing is to be a backing file."""
    return UsageError("a full image has no backing file to be named", remedy="give a base too")
