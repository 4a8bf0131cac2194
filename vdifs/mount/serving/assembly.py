"""The parts of a mount below FUSE, put together."""

import os
from dataclasses import dataclass

from vdifs.catalog.catalog import Catalog
from vdifs.mount.serving.change_watch import ChangeWatch, PageCache
from vdifs.mount.serving.control.control_files import ControlFiles
from vdifs.mount.serving.control.sidecars import SidecarContents
from vdifs.mount.serving.control.status_gathering import StatusCollector
from vdifs.mount.serving.handles import Handles
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.images.opening import opener_for
from vdifs.mount.serving.inspected_images import InspectedImages
from vdifs.mount.serving.inspection import Inspection
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.open_files import OpenFiles
from vdifs.mount.serving.published import Published
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.serving.scheduling.turns import Turns
from vdifs.mount.view.attributes import Ownership, folder_access
from vdifs.mount.view.options import MountOptions

__all__ = ["Serving", "assemble"]

_INSPECTING_THREADS = 2


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers the requests of one mount, once `tasks` has been started."""

    tasks: Tasks
    images: OpenImages
    namespace: Namespace
    files: OpenFiles
    status: StatusCollector
    inspection: Inspection
    published: Published


def assemble(
    catalog: Catalog,
    options: MountOptions,
    pages: PageCache,
) -> Serving:
    """Return the parts of a mount of `catalog`, which was scanned once."""
    tasks, turns = Tasks(), Turns()
    threads = Threads(options.threads, options.deadline, turns)
    one_by_one = Threads(1, options.deadline, turns)  # what tells about an image takes memory while it is made
    behind = Threads(_INSPECTING_THREADS, options.deadline, turns)  # lanes of their own, where one may hang
    opener = opener_for(catalog, options)
    images, handles = OpenImages(opener, tasks, threads), Handles()
    ownership = Ownership(options, folder_access(os.stat(catalog.policy.root)))
    hide, salt = options.refused == "hide", options.determines_bytes
    sidecars = SidecarContents(catalog, one_by_one)
    namespace = Namespace(
        catalog, images, tasks, threads, ownership, salt, sidecars.kinds, views=options.views, hide=hide
    )
    published = Published(images, tasks)
    inspected = InspectedImages(namespace, lambda: published.totals()[0])
    inspection = Inspection(inspected, opener, tasks, behind)
    namespace.when_changed = inspection.wake
    status = StatusCollector(options, namespace, images, handles, published, inspection)
    watch = ChangeWatch(images, handles, pages, tasks, namespace.note_change, live=options.live == "allow")
    control_files = ControlFiles(namespace, sidecars, status.collect)
    files = OpenFiles(namespace, images, handles, published, watch, pages, control_files)
    return Serving(tasks, images, namespace, files, status, inspection, published)
