"""The images of a mount as their inspection sees them: which there are, whether readers wait, what is told of them."""

from collections.abc import Callable, Iterator, Mapping

from vdifs.catalog.entry import Entry
from vdifs.errors import VdifsError
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source

__all__ = ["InspectedImages"]


class InspectedImages:
    """Those that a namespace shows; see `vdifs.mount.serving.inspection.Inspectable`."""

    def __init__(self, namespace: Namespace, reads_besides: Callable[[], int] = int) -> None:
        """reads_besides: returns how many reads were answered that the namespace has not counted."""
        self._namespace = namespace
        self._reads_besides = reads_besides

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Those that there are now, by PATH."""
        return self._namespace.tree.entries

    @property
    def requests(self) -> int:
        """How many requests there were of what a user asks for."""
        counted = self._namespace.counters
        reads = counted.reads + self._reads_besides()
        return counted.lookups + counted.stats + counted.listings + counted.opens + reads

    def source(self, path: str) -> Source | None:
        """Return what is known of the chain of an image, None if it is not there."""
        return self._namespace.tree.source(path)

    def failed(self) -> Iterator[tuple[str, VdifsError]]:
        """Yield the images of which a file could not be opened, and why."""
        return ((file.path, error) for file, error in self._namespace.failures.items())

    def note_failure(self, path: str, error: VdifsError) -> bool:
        """Take note that an image cannot be opened. Return whether it is still there."""
        file = ImageFile(path)
        inode = self._namespace.tree.inode(file)
        if inode is not None:
            self._namespace.failures.note(inode, file, error)
        return inode is not None

    def note_well(self, path: str) -> None:
        """Take note that an image can be opened."""
        self._namespace.failures.forget_passing(path)

    def note_change(self) -> None:
        """Take note that an image is another than the last search of the source has found."""
        self._namespace.scanner.outdated()

    def warn(self, error: VdifsError) -> None:
        """Tell the log, once in a while."""
        self._namespace.warnings.log(error)
