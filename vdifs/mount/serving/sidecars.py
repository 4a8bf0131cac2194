"""Files beside the images that tell about them: `.vdifs/info/PATH.json`, `.vdifs/map/PATH.json`, made when read.

What they hold is given by who mounts, so that the mount knows no output format.
"""

import errno
from collections.abc import Callable, Mapping

from vdifs.chain.catalog import Catalog
from vdifs.chain.entry import Entry
from vdifs.chain.policy import Policy
from vdifs.errors import VdifsError, printable
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.nodes import Sidecar
from vdifs.mount.view.sources import Source
from vdifs.output.cache import ByteBoundedCache

__all__ = ["Describe", "SidecarContents", "Sidecars", "too_long"]

MAX_SIZE = 4 << 20
_KEPT = 4 << 20

Describe = Callable[[Policy, Entry, int], bytes]
"""Returns what a sidecar of an image holds; raises VdifsError. May stop when it has more bytes than the last argument,
in the middle. Blocks."""
Sidecars = Mapping[str, Describe]
"""By the name of the folder in `.vdifs`."""


class SidecarContents:
    """What the sidecars of a mount hold; the last ones are kept, as who opens a file has asked for its size before."""

    def __init__(self, sidecars: Sidecars, catalog: Catalog, threads: Threads) -> None:
        self._sidecars = sidecars
        self._catalog = catalog
        self._threads = threads
        self._kept: ByteBoundedCache[bytes] = ByteBoundedCache(_KEPT, len)

    async def read(self, inode: int, sidecar: Sidecar, source: Source) -> bytes:
        """Return the contents of `sidecar`, whose image is in the state of `source`. Raises VdifsError, EFBIG."""
        contents = self._kept.get(inode)
        if contents is None:
            work = self._threads.work(source.devices, source.owner)
            contents = await self._threads.answer_work(work, source.devices, self._make, sidecar)
            self._kept.put(inode, contents)
        return contents

    def _make(self, sidecar: Sidecar) -> bytes:
        entry = self._catalog.entries.get(sidecar.path)
        if entry is None:
            raise VdifsError(f"{printable(sidecar.path)}: no such image any more", errno=errno.ESTALE)
        contents = self._sidecars[sidecar.kind](self._catalog.policy, entry, MAX_SIZE)
        if len(contents) > MAX_SIZE:
            raise too_long(sidecar.path, sidecar.kind, MAX_SIZE)
        return contents


def too_long(path: str, kind: str, most: int) -> VdifsError:
    """Return the error for a sidecar of the image PATH that would have more than `most` bytes."""
    what = f"{printable(path)}: its {kind} is longer than {most} bytes"
    return VdifsError(f"{what}: run 'vdifs {kind} --output json' on the image", errno=errno.EFBIG)
