"""Collecting what the status of a mount tells, from all parts of it."""

import time

import trio

from vdifs.mount.serving.control.status import Served, status_bytes
from vdifs.mount.serving.handles import Handles
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.inspection import Inspection
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.view.confinement import Confinement
from vdifs.mount.view.options import MountOptions

__all__ = ["StatusCollector"]


class StatusCollector:
    """The status of one mount. confinement: what is in force."""

    def __init__(
        self,
        options: MountOptions,
        namespace: Namespace,
        images: OpenImages,
        handles: Handles,
        inspection: Inspection,
    ) -> None:
        self._options = options
        self._namespace = namespace
        self._images = images
        self._handles = handles
        self._inspection = inspection
        self._started = time.time()
        self._one_at_a_time = trio.CapacityLimiter(1)  # it takes memory while it is made
        self.confinement = Confinement()

    async def collect(self) -> bytes:
        """Return the present status as JSON. Wakes the inspection, if it has something to try again."""
        namespace = self._namespace
        namespace.counters.scans = namespace.scanner.scans
        self._inspection.retry()
        served = Served(
            options=self._options,
            tree=namespace.tree,
            started=self._started,
            confinement=self.confinement,
            counters=namespace.counters,
            images_open=len(self._images),
            inodes_known=len(namespace.inodes),
            open_files=self._handles.images(),
            failures=namespace.failures.items(),
            trouble=namespace.scanner.trouble,
            images_to_open=await trio.to_thread.run_sync(self._inspection.unknown),
        )
        return await trio.to_thread.run_sync(status_bytes, served, limiter=self._one_at_a_time)
