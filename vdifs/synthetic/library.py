"""Opening a synthetic file from file names, as the library and the command line do."""

import os
from collections.abc import Sequence
from functools import partial

from vdifs.source.naming import ImageName, base_index
from vdifs.source.policy import Live, Policy
from vdifs.synthetic.image import Image, View, open_image

__all__ = ["open_path"]


def open_path(
    path: "str | os.PathLike[str]",
    *,
    base: "str | os.PathLike[str] | None" = None,
    view: View = "qcow2",
    cluster_size: int | None = None,
    backing_name: str | None = None,
    trusted: Sequence["str | os.PathLike[str]"] = (),
    snapshot: str | None = None,
    extended_l2: bool = False,
    live: Live = "refuse",
) -> Image:
    """Open an image file as if it had been flattened, or as a delta against `base`, one of its ancestors or itself.

    path, base: file names, relative to the working directory; base may be `FILE@SNAPSHOT` too.
    view: "qcow2", or "raw" for the guest contents.
    cluster_size: of the output, 512 to 2 MiB. backing_name: what a delta records as its backing file. trusted:
    directories beneath which backing files may lie, besides the image's own folder. snapshot: the name of an
    internal snapshot of the image, to open that instead of the active state. extended_l2: write subclusters. live:
    "allow" opens an image that a virtual machine is writing too; once it has changed, reads raise SourceChangedError.

    Raises VdifsError with an errno and a message that names the file, the offset and the remedy.
    """
    image = ImageName(os.fspath(path), snapshot)
    policy, name = Policy.for_image(image.path, [os.fspath(directory) for directory in trusted], live=live)
    with policy:
        return open_image(
            policy,
            name,
            base=None if base is None else partial(base_index, base=ImageName.parse(os.fspath(base))),
            view=view,
            cluster_size=cluster_size,
            backing_name=backing_name,
            snapshot=snapshot,
            extended_l2=extended_l2,
        )
