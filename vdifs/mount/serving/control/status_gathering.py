"""Gathering what `.vdifs/status.json` tells, from all parts of a mount: what is served, what is refused and why.

The fields of it are `vdifs.report.status`'s. `StatusCollector` asks the parts, and all else here is pure.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import trio

from vdifs.catalog.grouping import refusals
from vdifs.errors import UsageError, VdifsError
from vdifs.formats.problems import Severity, failed
from vdifs.mount.serving.handles import Handle, Handles
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.inspection import Inspection
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.published import Published
from vdifs.mount.view.confinement import Confinement
from vdifs.mount.view.log_destination import log_destination
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.options import MountOptions
from vdifs.mount.view.tree import Tree
from vdifs.report.status import Counters, MountProblem, MountStatus, OpenFile, ServedImage, status_json

__all__ = ["Served", "StatusCollector", "mount_status", "status_bytes"]


@dataclass(frozen=True, slots=True)
class Served:
    """What a status is made of. failures: files that could not be opened. started: seconds since 1970.

    images_to_open: those of which it is not known yet whether they can be opened.
    trouble: why it is not known what the source holds now.
    """

    options: MountOptions
    tree: Tree
    started: float
    counters: Counters
    images_open: int
    inodes_known: int
    confinement: Confinement
    open_files: Sequence[Handle] = ()
    failures: Sequence[tuple[ImageFile, VdifsError]] = ()
    images_to_open: int = 0
    trouble: VdifsError | None = None


class StatusCollector:
    """The status of one mount. confinement: what is in force."""

    def __init__(
        self,
        options: MountOptions,
        namespace: Namespace,
        images: OpenImages,
        handles: Handles,
        published: Published,
        inspection: Inspection,
    ) -> None:
        self._options = options
        self._namespace = namespace
        self._images = images
        self._handles = handles
        self._published = published
        self._inspection = inspection
        self._started = time.time()
        self._one_at_a_time = trio.CapacityLimiter(1)  # it takes memory while it is made
        self.confinement = Confinement()

    async def collect(self) -> bytes:
        """Return the present status as JSON. Wakes the inspection, if it has something to try again."""
        namespace = self._namespace
        namespace.counters.scans = namespace.scanner.scans
        self._inspection.retry()
        for number, handle in self._handles.numbered():
            self._published.count(number, handle)
        reads, bytes_read = self._published.totals()
        counters = replace(
            namespace.counters,
            reads=namespace.counters.reads + reads,
            bytes_read=namespace.counters.bytes_read + bytes_read,
        )
        served = Served(
            options=self._options,
            tree=namespace.tree,
            started=self._started,
            confinement=self.confinement,
            counters=counters,
            images_open=len(self._images),
            inodes_known=len(namespace.inodes),
            open_files=self._handles.images(),
            failures=namespace.failures.items(),
            trouble=namespace.scanner.trouble,
            images_to_open=await trio.to_thread.run_sync(self._inspection.unknown),
        )
        return await trio.to_thread.run_sync(status_bytes, served, limiter=self._one_at_a_time)


def status_bytes(served: Served) -> bytes:
    """Return the status as JSON, one object, ending in a newline."""
    return json.dumps(status_json(mount_status(served)), indent=1).encode() + b"\n"


def mount_status(served: Served) -> MountStatus:
    """Return what is told of a mount."""
    options = served.options
    return MountStatus(
        pid=os.getpid(),
        source=options.source,
        mountpoint=options.mountpoint,
        started=served.started,
        confinement=asdict(served.confinement),
        log=log_destination(options),
        permissions_overridden=options.overrides_permissions,
        views=options.views,
        images=_images(served),
        images_to_open=served.images_to_open,
        problems=list(_problems(served)),
        counters=served.counters,
        images_open=served.images_open,
        inodes_known=served.inodes_known,
        open_files=[_open_file(handle) for handle in served.open_files],
    )


def _images(served: Served) -> list[ServedImage]:
    refused = {path for path, _ in _refused(served)}
    entries = served.tree.entries
    return [
        ServedImage(path, entry.format, entry.virtual_size, entry.backing_path, path not in refused)
        for path in sorted(entries)
        for entry in [entries[path]]
    ]


def _refused(served: Served) -> Iterator[tuple[str, VdifsError]]:
    """Yield the images that are not served, each with why: what headers tell, and then what opening has shown."""
    for path in served.tree.entries:
        source = served.tree.source(path)
        if source is not None and source.problem is not None:
            yield path, source.problem
    for file, error in served.failures:
        if file.path in served.tree.entries:
            yield file.path, error


def _problems(served: Served) -> Iterator[MountProblem]:
    """Yield each problem once, with the images that it keeps from being served."""
    tree = served.tree
    files = {file.path: next(iter(tree.paths(file)), file.path) for file, _ in served.failures}
    refused = list(_refused(served))
    yield from _troubles(served, refused)
    in_trouble = {id(trouble) for trouble in tree.troubles.values()}
    others = (each for each in refused if id(each[1]) not in in_trouble)
    for path, error, keeps in refusals(others, lambda each: tree.entries[each].backing_path):
        found = failed(path, error)
        yield MountProblem(error, found.severity, found.kind, keeps, path, files.get(path))
    for left_out in tree.left_out:
        yield MountProblem(left_out.error, left_out.severity, left_out.kind, path=left_out.path or None)
    for error in tree.problems():
        yield MountProblem(error, Severity.WARNING, "too-large" if isinstance(error, UsageError) else "name-taken")


def _troubles(served: Served, refused: Iterable[tuple[str, VdifsError]]) -> Iterator[MountProblem]:
    """Yield the places of which it cannot be told what they hold now; "" is SOURCE itself."""
    found = list(served.tree.troubles.items())
    if served.trouble is not None:
        found.insert(0, ("", served.trouble))
    for place, trouble in found:
        keeps = [path for path, error in refused if error is trouble]
        yield MountProblem(trouble, Severity.ERROR, "trouble", keeps, place=place)


def _open_file(handle: Handle) -> OpenFile:
    return OpenFile(handle.path, handle.attributes.size, handle.position, handle.bytes_read, handle.opened)
