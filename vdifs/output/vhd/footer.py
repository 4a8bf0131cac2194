"""The footer of a synthetic VHD: the same for the same sources, names and options, on any host, at any time.

UUID    of what the chain tells without its data: names, formats and lengths of its files, identities that they state,
        and how much the disk holds of each GiB. A data's hash would need all of them before the first byte is served
time    2000-01-01, from which a VHD counts
creator Windows: all readers then take the size that is stated, none what cylinders, heads and sectors come to
"""

import posixpath
from uuid import UUID, uuid5

from vdifs.chain.open_chain import Chain, Member
from vdifs.formats.vhd.footer import NO_OFFSET, DiskType, Footer
from vdifs.formats.vhd.geometry import geometry_of
from vdifs.output.summary import Summary

__all__ = ["footer_of", "identity_of"]

_NAMESPACE = UUID("0d3ad2b1-6b1c-5f2c-9c0e-7a5b1f0f4a57")
_GRAIN = 1 << 30
"""Windows begin at all multiples of it."""


def identity_of(view: str, chain: Chain, summary: Summary) -> UUID:
    """Return the UUID of a view of the disk on top of `chain`; summary: of that disk, with no base."""
    windows, stored = summary.windows, summary.stored
    amounts = [stored.before(windows.at(at)) for at in range(_GRAIN, chain.virtual_size, _GRAIN)]
    members = [_told_of(member) for member in chain.members]
    return uuid5(_NAMESPACE, ascii((view, chain.virtual_size, stored.total, amounts, members)))


def footer_of(disk_type: DiskType, size: int, uuid: UUID, header_offset: int = NO_OFFSET) -> bytes:
    """Return the footer of a disk of `size` bytes, whole sectors: 512 bytes."""
    cylinders, heads, sectors = geometry_of(size // 512)
    footer = Footer(
        features=2,
        version=0x00010000,
        header_offset=header_offset,
        time_stamp=0,
        creator=b"win ",
        creator_version=0x000A0000,
        creator_os=b"Wi2k",
        original_size=size,
        current_size=size,
        cylinders=cylinders,
        heads=heads,
        sectors=sectors,
        disk_type=disk_type,
        checksum=0,
        uuid=uuid,
        saved_state=0,
        hidden_flag=0,
    )
    return footer.pack()


def _told_of(member: Member) -> tuple[object, ...]:
    metadata = member.metadata
    lengths = [file.fingerprint.size for file in member.data]
    return posixpath.basename(member.path), member.format, member.snapshot, lengths, sorted(metadata.identities)
