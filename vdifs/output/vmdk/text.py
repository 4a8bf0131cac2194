"""The descriptor of a synthetic VMDK, and the CID in it. Pure. See docs/formats.md, VMDK."""

import hashlib
from collections.abc import Iterable

from vdifs.formats.vmdk.descriptor import NO_PARENT

__all__ = ["cid_of", "descriptor"]

_HEADS, _SECTORS_PER_TRACK = 255, 63


def descriptor(capacity: int, cid: str) -> bytes:
    """Return the descriptor of a disk of `capacity` sectors.

    Its one line is for those who read the descriptor alone: whoever opens the file has its name already.
    """
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        f"CID={cid}",
        f"parentCID={NO_PARENT}",
        'createType="streamOptimized"',
        "",
        "# Extent description",
        f'RW {capacity} SPARSE "disk.vmdk"',
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        'ddb.virtualHWVersion = "4"',
        f'ddb.geometry.cylinders = "{capacity // (_HEADS * _SECTORS_PER_TRACK)}"',
        f'ddb.geometry.heads = "{_HEADS}"',
        f'ddb.geometry.sectors = "{_SECTORS_PER_TRACK}"',
        'ddb.adapterType = "lsilogic"',
        "",
    ]
    return "\n".join(lines).encode("ascii")


def cid_of(parts: Iterable[object]) -> str:
    """Return eight hexadecimal digits that follow from `parts`, values with a plain repr; never those of no parent."""
    digest = hashlib.sha256(repr(tuple(parts)).encode("utf-8", "surrogateescape")).digest()
    return f"{int.from_bytes(digest[:8], 'big') % int(NO_PARENT, 16):08x}"
