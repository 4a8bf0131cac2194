"""What a mount asks of the catalog, and what it keeps of the answers: one value per image."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from vdifs.catalog.catalog import Entry
from vdifs.catalog.described import Described
from vdifs.catalog.left_out import LeftOut
from vdifs.chain.access import Access
from vdifs.errors import VdifsError

__all__ = ["CatalogView", "Source", "source_of"]


class CatalogView(Protocol):
    """What a tree asks of `vdifs.catalog.catalog.Catalog`."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The images by PATH."""

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What is not served though one may miss it, apart from refused images."""

    @property
    def troubles(self) -> Mapping[str, VdifsError]:
        """The folders of which it cannot be told what they hold now, by PATH, "" for the source root, and why."""

    @property
    def shut(self) -> frozenset[str]:
        """The folders below the source root that cannot be looked into, by PATH: also those that never could be."""

    def chain(self, path: str) -> tuple[Entry, ...]:
        """Return an image and its ancestors, top first; raises VdifsError."""

    def overlays(self, path: str) -> tuple[str, ...]:
        """Return the PATHs of the images above this one."""

    def generation(self, path: str) -> bytes:
        """Return what identifies the present state of a chain."""

    def described(self, path: str) -> Described:
        """Return what is known of an image and its chain."""

    def folder_access(self, places: Iterable[tuple[str, int]]) -> Access:
        """Return the access to a folder that stands for folders of the source: an image in each, and its depth."""

    def status_access(self) -> Access:
        """Return the access to what tells of all images."""


class Source(NamedTuple):
    """What the catalog says of one image's chain. generation: identifies its state. devices: its file systems.

    mtime_ns, ctime_ns: the newest of its files, as each of them counts for what the synthetic file holds. owner: of the
    image's own file. problem: why it cannot be opened; then no user has access, and times and devices are the image's
    own.
    """

    generation: bytes
    mtime_ns: int
    devices: frozenset[int]
    access: Access
    problem: VdifsError | None
    ctime_ns: int = 0
    owner: int = 0


def source_of(catalog: CatalogView, entry: Entry, shared: dict[Hashable, Any] | None = None) -> Source:
    """Ask the catalog for everything about the image `entry`.

    shared: values that were given out: images are many, their file systems and owners few.
    """
    known = catalog.described(entry.path)
    files = [each for member in known.chain or (entry,) for each in member.fingerprints]
    devices, access = frozenset([each.dev for each in files]), known.access
    if shared is not None:
        devices, access = shared.setdefault(devices, devices), shared.setdefault(access, access)
    return Source(
        known.generation,
        max([each.mtime_ns for each in files]),
        devices,
        access,
        known.problem,
        max([each.ctime_ns for each in files]),
        entry.uid,
    )
