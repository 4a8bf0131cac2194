"""Opening a synthetic file from file names, as the library and the command line do."""

from collections.abc import Iterable
from functools import partial
from typing import get_args

from vdifs.chain.naming import ImageName, base_index
from vdifs.chain.policy import Live, Policy
from vdifs.errors import UsageError, printable
from vdifs.output.arguments import FileName, choice, file_name, file_names, flag, name, number
from vdifs.output.image import Image, View, open_image

__all__ = ["open_path"]


def open_path(
    path: FileName,
    *,
    base: FileName | None = None,
    view: View = "qcow2",
    cluster_size: int | None = None,
    backing_name: str | None = None,
    trusted: Iterable[FileName] = (),
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
    image = ImageName(file_name("path", path), name("snapshot", snapshot))
    below = None if base is None else ImageName.parse(file_name("base", base))
    choice("view", view, get_args(View))
    choice("live", live, get_args(Live))
    cluster_size = None if cluster_size is None else number("cluster_size", cluster_size)
    backing_name, extended_l2 = name("backing_name", backing_name), flag("extended_l2", extended_l2)
    if backing_name is not None and below is None:
        raise UsageError(f"{printable(image.path)}: a full image has no backing file to be named: give a base too")
    policy, inside = Policy.for_image(image.path, file_names("trusted", trusted), live=live)
    with policy:
        return open_image(
            policy,
            inside,
            base=None if below is None else partial(base_index, base=below),
            view=view,
            cluster_size=cluster_size,
            backing_name=backing_name,
            snapshot=image.snapshot,
            extended_l2=extended_l2,
        )
