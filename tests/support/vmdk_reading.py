"""VMDK images read by vdifs from the layers up, and by other readers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vdifs.chain.members import Member
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.formats.image_format import Front, Metadata
from vdifs.formats.vmdk.format import VMDK
from vdifs.output.protocol import ResolvedSpec
from vdifs.output.qcow2.output import Qcow2Output
from vdifs.output.raw import RawOutput
from vdifs.storage.host_file import HostFile


def opened(path: Path, stack: ExitStack) -> HostFile:
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    stack.callback(file.close)
    return file


def metadata_of(path: Path) -> Metadata:
    with ExitStack() as stack:
        return VMDK.read(Front(opened(path, stack)))


def member_of(path: Path, stack: ExitStack) -> Member:
    file = opened(path, stack)
    metadata = VMDK.read(Front(file))
    data = tuple(opened(path.parent / name, stack) for name in metadata.data_files) or (file,)
    return Member(path.name, file, data, metadata, metadata.layer(file, data, None))


@contextmanager
def chain_of(path: Path) -> Iterator[Chain]:
    """Open an image and those below it."""
    policy, name = Policy.for_image(os.fspath(path))
    with policy, Chain.open(policy, name) as chain:
        yield chain


def raw(chain: Chain) -> bytes:
    """Return the disk, through the raw view."""
    output = RawOutput(ResolvedSpec(chain, None, 16, False, None, None))
    buffer = bytearray(output.size)
    if buffer:
        output.readinto(0, memoryview(buffer), wait=True)
    return bytes(buffer)


def qcow2(chain: Chain, target: Path, base: int | None = None, name: str | None = None) -> Path:
    """Write the full image, or a delta against the member of index `base`, which it calls `name`."""
    output = Qcow2Output(ResolvedSpec(chain, base, 16, False, name, "qcow2" if name else None))
    buffer = bytearray(output.size)
    output.readinto(0, memoryview(buffer), wait=True)
    target.write_bytes(buffer)
    return target


def disk_of(path: Path) -> bytes:
    """Return the disk of an image and those below it. Raises VdifsError."""
    with chain_of(path) as chain:
        return raw(chain)


_LIBVMDK = """
import sys, pyvmdk
handles = []
for name in sys.argv[1:]:
    handle = pyvmdk.handle()
    handle.open(name)
    handle.open_extent_data_files()
    handles.append(handle)
for child, parent in zip(handles, handles[1:]):
    child.set_parent(parent)
left = handles[0].get_media_size()
while left:
    part = handles[0].read_buffer(min(left, 1 << 20))
    assert part
    sys.stdout.buffer.write(part)
    left -= len(part)
"""


def by_libvmdk(*chain: Path) -> bytes:
    """Return the disk as libvmdk reads it. chain: top first."""
    command = [sys.executable, "-c", _LIBVMDK, *map(os.fspath, chain)]
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert not done.returncode, done.stderr.decode(errors="replace")
    return done.stdout
