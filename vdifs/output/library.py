"""Opening a synthetic file from file names, as the library and the command line do."""

from collections.abc import Iterable
from typing import get_args

from vdifs.chain.links import ImageRef
from vdifs.chain.naming import ImageName, open_chain
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Live, Policy
from vdifs.output.arguments import FileName, choice, file_name, file_names, name
from vdifs.output.image import Image
from vdifs.output.opening import open_image
from vdifs.output.spec import OutputSpec, no_backing_file
from vdifs.output.view import PackedClusters, View

__all__ = ["open_named", "open_path"]


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
    packed: PackedClusters = "keep",
) -> Image:
    """Open an image file as if it had been flattened, or as a delta against `base`, one of its ancestors or itself.

    path, base: file names, relative to the working directory; base may be `FILE@SNAPSHOT` too.
    view: "qcow2", "raw" for the guest contents, or "vhd", "vhd-fixed", "vmdk", which hold them and have no base.
    cluster_size: of a qcow2, 512 to 2 MiB. backing_name: what a delta records as its backing file. trusted:
    directories beneath which backing files may lie, besides the image's own folder. snapshot: the name of an
    internal snapshot of the image, to open that instead of the active state. extended_l2: write subclusters. live:
    "allow" opens an image that a virtual machine is writing too; once it has changed, reads raise SourceChangedError.
    packed: "keep" leaves clusters packed that are so in a source, where they can stay as they are; "expand" does not.

    Raises VdifsError with an errno and a message that names the file, the offset and the remedy.
    """
    image = ImageName(file_name("path", path), name("snapshot", snapshot))
    below = None if base is None else ImageName.parse(file_name("base", base))
    choice("live", live, get_args(Live))
    if backing_name is not None and below is None:
        raise no_backing_file().at(image.path)
    spec = OutputSpec(view, below, cluster_size, backing_name, extended_l2, packed=packed)
    return open_named(image, spec, trusted=file_names("trusted", trusted), live=live)


def open_named(image: ImageName, spec: OutputSpec, *, trusted: Iterable[str] = (), live: Live = "refuse") -> Image:
    """Open an image that the user names. Backing files may lie in its own folder and beneath `trusted`.

    Raises what open_image does.
    """
    also, below = tuple(trusted), spec.base

    def open_base() -> Chain:
        assert isinstance(below, ImageName), "that is how users name it"
        return open_chain(below, also, live)

    policy, inside = Policy.for_image(image.path, also, live=live)
    with policy:
        return open_image(policy, ImageRef(inside, image.snapshot), spec, open_base)
