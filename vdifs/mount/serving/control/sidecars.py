"""Files beside the images that tell about them: `.vdifs/info/PATH.json`, `.vdifs/map/PATH.json`, made when read."""

import errno
from collections.abc import Callable, Mapping

from vdifs.catalog.catalog import Catalog
from vdifs.catalog.entry import Entry
from vdifs.chain.policy import Policy
from vdifs.errors import VdifsError
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.inodes import StaleInodeError
from vdifs.mount.view.nodes import Sidecar
from vdifs.mount.view.sources import Source
from vdifs.output.cache import ByteBoundedCache
from vdifs.report.kept_info import KeptInfo
from vdifs.report.kept_map import KeptMap

__all__ = ["SidecarContents"]

MAX_SIZE = 4 << 20
_KEPT = 4 << 20


class SidecarContents:
    """What the sidecars of a mount hold; the last ones are kept, as who opens a file has asked for its size before."""

    def __init__(self, catalog: Catalog, threads: Threads) -> None:
        """Keep nothing yet. threads: those in which they are made."""
        self._texts: Mapping[str, Callable[[Policy, Entry, int], bytes | None]] = {
            "info": KeptInfo().text,
            "map": KeptMap().text,
        }
        self._catalog = catalog
        self._threads = threads
        self._kept: ByteBoundedCache[bytes] = ByteBoundedCache(_KEPT, len)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The folders in `.vdifs`, one for each kind."""
        return tuple(self._texts)

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
            raise StaleInodeError("no such image any more", where=sidecar.path)
        contents = self._texts[sidecar.kind](self._catalog.policy, entry, MAX_SIZE)
        if contents is None or len(contents) > MAX_SIZE:
            what = f"its {sidecar.kind} is longer than {MAX_SIZE} bytes"
            remedy = f"run 'vdifs {sidecar.kind} --output json' on the image"
            raise VdifsError(what, where=sidecar.path, remedy=remedy, errno=errno.EFBIG)
        return contents
