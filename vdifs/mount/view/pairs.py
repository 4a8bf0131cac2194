"""Deltas against images that are no ancestors: which there are, by the names and files of the catalog alone.

delta/a.qcow2@monday/    lists what stands on it, and the later states of a.qcow2: its later snapshots, a.qcow2
delta/b.qcow2/c.qcow2    is not listed where b.qcow2 is no ancestor of c.qcow2, and is there if they share a file
"""

from collections.abc import Iterator, Mapping
from itertools import dropwhile, islice

from vdifs.catalog.entry import Entry
from vdifs.chain.policy import MAX_DEPTH
from vdifs.mount.view import names
from vdifs.mount.view.nodes import ImageFile

__all__ = ["Relatives", "is_pair", "members_of"]


def members_of(entries: Mapping[str, Entry], file: ImageFile) -> Iterator[Entry]:
    """Yield the image and its ancestors, top first, as headers tell; of a pair then the base and its ancestors."""
    yield from _line(entries, file.path)
    if file.base is not None and is_pair(entries, file):
        yield from _line(entries, file.base)


def is_pair(entries: Mapping[str, Entry], file: ImageFile) -> bool:
    """Tell whether a file is a delta against an image that is no ancestor of its own."""
    return file.base is not None and all(entry.path != file.base for entry in _line(entries, file.path))


_MOST_LISTED = 1024
"""So many snapshots a file has whose later ones are all listed."""


class Relatives:
    """The images of one state of a catalog, and which of them share files."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        """Look at nothing yet."""
        self._entries = entries
        self._states: dict[str, list[str]] | None = None

    def later(self, path: str) -> list[str]:
        """Return the later snapshots of the file whose snapshot `path` is, and the file; nothing of another image.

        Of a file that has very many only the next one: each of them would be in the folders of all before.
        """
        entry = self._entries[path]
        if entry.snapshot is None:
            return []
        if self._states is None:
            self._states = {}
            for each in self._entries.values():
                if each.snapshot is not None:
                    self._states.setdefault(each.file_path, []).append(each.path)
        snapshots = self._states[entry.file_path]
        active = [entry.file_path] if entry.file_path in self._entries else []
        most = len(snapshots) if len(snapshots) <= _MOST_LISTED else 1
        return [*islice(dropwhile(lambda each: each != path, snapshots), 1, 1 + most), *active]

    def called(self, base: str, name: str) -> ImageFile | None:
        """Return the delta that is called `name` beneath `delta/BASE`, if BASE shares a file and is no ancestor."""
        for path in (name, name.removesuffix(f".{names.FLATTENED}")):
            entry = self._entries.get(path)
            if entry is None or names.in_delta(path, entry.format) != name:
                continue
            file = ImageFile(path, base)
            backing = names.delta_backing_name(name, names.in_delta(base, self._entries[base].format))
            fits = len(backing.encode("utf-8", "surrogateescape")) <= names.MAX_BACKING_NAME
            return file if fits and is_pair(self._entries, file) and self._share(path, base) else None
        return None

    def below(self, base: str, folder: str) -> str | None:
        """Return the PATH of an image beneath `folder` that shares a file with `base`; None if there is none."""
        start = f"{folder}/"
        return next((path for path in self._entries if path.startswith(start) and self._share(path, base)), None)

    def _share(self, one: str, other: str) -> bool:
        files = {each[:2] for entry in _line(self._entries, one) for each in entry.fingerprints}
        return any(each[:2] in files for entry in _line(self._entries, other) for each in entry.fingerprints)


def _line(entries: Mapping[str, Entry], path: str | None) -> Iterator[Entry]:
    for _ in range(MAX_DEPTH):
        entry = None if path is None else entries.get(path)
        if entry is None:
            return
        yield entry
        path = entry.backing_path
