"""How large a disk each output can hold, where its format has a bound of its own. Loads no numpy."""

from collections.abc import Mapping
from typing import Final

from vdifs.errors import UsageError
from vdifs.formats.vhd.footer import MAX_SIZE as VHD_MAX_SIZE
from vdifs.output.view import View
from vdifs.wording import size_with_bytes

__all__ = ["check_holds"]

_LARGEST: Final[Mapping[View, int]] = {"vhd": VHD_MAX_SIZE, "vhd-fixed": VHD_MAX_SIZE, "vmdk": 32 << 40}
"""Bytes; a view that is not here has no such bound. A VMDK holds more: that are the tables that vdifs reads of one."""


def check_holds(view: View, virtual_size: int, where: str | None = None) -> None:
    """Raise UsageError if a disk of `virtual_size` bytes is larger than `view` can hold. where: the file it is of."""
    largest = _LARGEST.get(view)
    if largest is not None and virtual_size > largest:
        holds = f"a {view} holds disks of {largest >> 30:,} GiB at most"
        what = f"{holds}, and this one has {size_with_bytes(virtual_size)}"
        raise UsageError(what, where=where, remedy="take it as a qcow2 or raw")
