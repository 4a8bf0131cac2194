"""The pyfuse3 adapter: requests in, values of `Namespace` and `OpenFiles` out. Decides nothing.

Handlers that are not here answer ENOSYS, which the kernel takes as "not needed" (flush, fsync, locks) and never asks
again; what would change anything never gets here, as the mount is read-only.
Nor does a read: see reads.py.
"""

import os
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    InodeT,
    ReaddirToken,
    RequestContext,
    StatvfsData,
    XAttrNameT,
)

from vdifs.mount.fuse.boundary import answering_errno
from vdifs.mount.serving.listings import Listings
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.open_files import OpenFiles
from vdifs.mount.serving.rate_limited_log import RateLimitedLog
from vdifs.mount.view.attributes import TIMEOUT_S, Attributes
from vdifs.mount.view.names import MAX_NAME

__all__ = ["Operations"]

BLOCK_SIZE = 128 << 10
"""st_blksize: what cp and cat read at once."""
_UNIT = 4096


@answering_errno
class Operations(pyfuse3.Operations):
    """The handlers of one mount."""

    supports_dot_lookup = True

    def __init__(self, namespace: Namespace, files: OpenFiles, warnings: RateLimitedLog) -> None:
        super().__init__()
        self.warnings = warnings
        self._namespace = namespace
        self._files = files
        self._listings = Listings(namespace)
        self._blocks: tuple[object, int] | None = None

    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:  # noqa: ARG002
        return entry_attributes(await self._namespace.lookup(parent_inode, os.fsdecode(name)))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for inode, count in inode_list:
            self._namespace.inodes.forget(inode, count)

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:  # noqa: ARG002
        return entry_attributes(await self._files.stat(inode))

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:  # noqa: ARG002
        return self._listings.open(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        for position, name, attributes in await self._listings.read(fh, start_id):
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry_attributes(attributes), position):
                return
            self._listings.handed_out(fh, position, attributes.inode)

    async def releasedir(self, fh: FileHandleT) -> None:
        self._listings.release(fh)

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:  # noqa: ARG002
        number, cached = await self._files.open(inode)
        try:
            return FileInfo(fh=number, keep_cache=cached, direct_io=not cached)
        except BaseException:
            self._files.release(number)  # the kernel will not, as it never had it
            raise

    async def release(self, fh: FileHandleT) -> None:
        self._files.release(fh)

    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:  # noqa: ARG002
        return await self._files.xattr(inode, name)

    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:  # noqa: ARG002
        return self._files.xattr_names(inode)

    async def statfs(self, ctx: RequestContext) -> StatvfsData:  # noqa: ARG002
        entries = self._namespace.tree.entries
        stats = StatvfsData()
        stats.f_bsize = stats.f_frsize = _UNIT
        if self._blocks is None or self._blocks[0] is not entries:  # of very many images, that takes a moment
            self._blocks = entries, sum(-(-entry.fingerprint.size // _UNIT) for entry in entries.values())
        stats.f_blocks = self._blocks[1]
        stats.f_files = len(entries)
        stats.f_namemax = MAX_NAME
        return stats


def entry_attributes(attributes: Attributes) -> EntryAttributes:
    """Return attributes as FUSE wants them. What may not be kept has no timeout: the kernel asks before it opens."""
    entry = EntryAttributes()
    entry.st_ino = attributes.inode
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.links
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_size = attributes.size
    entry.st_blksize = BLOCK_SIZE
    entry.st_blocks = attributes.blocks
    entry.st_atime_ns = entry.st_mtime_ns = attributes.mtime_ns
    entry.st_ctime_ns = attributes.ctime_ns
    entry.entry_timeout = TIMEOUT_S
    entry.attr_timeout = TIMEOUT_S if attributes.lasting else 0
    return entry
