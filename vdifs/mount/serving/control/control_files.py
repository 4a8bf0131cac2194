"""The files of `.vdifs`, which are no images: the status, and the files about images. Each open one stays as it was."""

import errno
from collections.abc import Awaitable, Callable

from vdifs.errors import VdifsError
from vdifs.mount.serving.control.sidecars import SidecarContents
from vdifs.mount.serving.control.steady_contents import SteadyContents
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.view.nodes import Node, Sidecar, StatusFile

__all__ = ["ControlFiles"]


class ControlFiles:
    """What the files of `.vdifs` hold. status: returns what the status file holds now."""

    def __init__(self, namespace: Namespace, sidecars: SidecarContents, status: Callable[[], Awaitable[bytes]]) -> None:
        self._namespace = namespace
        self._sidecars = sidecars
        self._status = SteadyContents(status)

    async def open(self, inode: int, node: Node) -> bytes:
        """Return what a file holds, which is open until `close`. Raises StaleInodeError, and why it cannot be made."""
        return await self._status.open() if isinstance(node, StatusFile) else await self._contents(inode, node)

    def close(self, contents: bytes) -> None:
        """Forget a file that was opened."""
        self._status.close(contents)

    async def size(self, inode: int, node: Node) -> int:
        """Return how many bytes the next `open` returns, if it comes soon. Raises the same."""
        return await self._status.size() if isinstance(node, StatusFile) else len(await self._contents(inode, node))

    async def _contents(self, inode: int, node: Node) -> bytes:
        if not isinstance(node, Sidecar):
            raise VdifsError("no file", where=str(node), remedy="open a file in it", errno=errno.EISDIR)
        return await self._sidecars.read(inode, node, await self._namespace.source_of_sidecar(inode, node))
