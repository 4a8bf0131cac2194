"""What a mount asks of the catalog, and what it keeps of the answers: one value per image."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from vdifs.catalog.catalog import Entry
from vdifs.catalog.described import Described
from vdifs.catalog.left_out import LeftOut
from vdifs.chain.access import Access, both
from vdifs.errors import VdifsError
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.pairs import is_pair
from vdifs.storage.fingerprint import Fingerprint

__all__ = ["CatalogView", "Source", "described_files", "generation_of", "paired_source", "source_of"]


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


def paired_source(image: Source, base: Source) -> Source:
    """Return what there is to know of a delta of `image` against `base`, which is no ancestor of it."""
    return Source(
        _generation([image.generation, base.generation]),
        max(image.mtime_ns, base.mtime_ns),
        image.devices | base.devices,
        both(image.access, base.access),
        image.problem or base.problem,
        max(image.ctime_ns, base.ctime_ns),
        image.owner,
    )


def described_files(catalog: CatalogView, file: ImageFile) -> tuple[Fingerprint, ...]:
    """Return the files of the chain of an image, and of its base's if it is another, as the catalog describes them.

    Raises VdifsError where either cannot be opened.
    """
    return tuple(
        each for path in _chains(catalog, file) for entry in catalog.chain(path) for each in entry.fingerprints
    )


def generation_of(catalog: CatalogView, file: ImageFile) -> bytes:
    """Return what identifies the present state of all that a file is made of."""
    return _generation([catalog.generation(path) for path in _chains(catalog, file)])


def _chains(catalog: CatalogView, file: ImageFile) -> list[str]:
    """Return the PATHs of the images whose chains a file is made of: one, or two of a pair."""
    return [file.path] if file.base is None or not is_pair(catalog.entries, file) else [file.path, file.base]


def _generation(each: Sequence[bytes]) -> bytes:
    return each[0] if len(each) == 1 else hashlib.sha256(b"".join(each)).digest()
