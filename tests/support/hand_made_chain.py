"""Chains that are put together by hand: each file read in a format, its layer laid over that of the next one.

For formats whose images know one another by identity, before or without a search for them.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.stated import rows
from vdifs.chain.open_chain import Chain, Member
from vdifs.extents import Extents, Kind
from vdifs.formats.image_format import Front, ImageFormat, Metadata
from vdifs.storage.host_file import HostFile


@contextmanager
def opened(path: Path) -> Iterator[HostFile]:
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    try:
        yield file
    finally:
        file.close()


@contextmanager
def read(image_format: ImageFormat, path: Path) -> Iterator[tuple[HostFile, Metadata]]:
    """Open a file and return it with what it says."""
    with opened(path) as file:
        yield file, image_format.read(Front(file))


@contextmanager
def chain_of(image_format: ImageFormat, *paths: Path) -> Iterator[Chain]:
    """Return the chain of images of one format, top first."""
    with ExitStack() as stack:
        members = list[Member]()
        for path in paths:
            file, metadata = stack.enter_context(read(image_format, path))
            if members:
                metadata = metadata.as_parent()
            members.append(Member(path.name, file, (file,), metadata, metadata.layer(file, [file], None)))
        yield Chain(tuple(members))


def contents(chain: Chain, layers: slice = slice(None)) -> bytes:
    """Return the guest disk as the layers have it, zeros where none holds anything."""
    return b"".join(_bytes_of(chain, part) for part in chain.in_parts(layers))


def laid_over(chain: Chain, above: int, below: bytes) -> bytes:
    """Return the disk that the upper `above` layers show over the disk `below`."""
    upper = slice(0, above)
    disk = bytearray(contents(chain, upper))
    for start, stop, kind, _, _ in rows(chain.extents(0, len(disk), upper)):
        if kind == Kind.UNALLOCATED:
            disk[start:stop] = below[start:stop].ljust(stop - start, b"\0")
    return bytes(disk)


def _bytes_of(chain: Chain, extents: Extents) -> bytes:
    found = bytearray()
    for start, stop, kind, number, host in rows(extents):
        assert kind != Kind.COMPRESSED
        is_data = kind == Kind.DATA
        found += chain.data_files[number].read_at(host, stop - start) if is_data else bytes(stop - start)
    return bytes(found)


def disk_of(image_format: ImageFormat, *paths: Path) -> bytes:
    """Return the guest disk of a chain, top first."""
    with chain_of(image_format, *paths) as chain:
        return contents(chain)
