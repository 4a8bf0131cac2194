"""Opening an image in one state of its sources: the state that an inode number was given for."""

from contextlib import ExitStack

from vdifs.catalog.catalog import Catalog, Entry
from vdifs.chain.links import ImageRef
from vdifs.chain.open_chain import Chain
from vdifs.errors import SourceChangedError
from vdifs.mount.serving.images.open_images import Opener
from vdifs.mount.view import names
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.options import MountOptions
from vdifs.mount.view.sources import Source, described_files, generation_of
from vdifs.output.image import Image
from vdifs.output.opening import open_image
from vdifs.output.spec import OutputSpec

__all__ = ["opener_for"]


def opener_for(catalog: Catalog, options: MountOptions) -> Opener:
    """Return the function with which a mount of `catalog` opens its files."""

    def open_in_state(file: ImageFile, source: Source) -> Image:
        entry = catalog.entries.get(file.path)
        if entry is None:
            raise SourceChangedError("removed since its folder was searched", where=file.path, remedy="look again")
        backing_name, backing_format = _recorded(catalog, file, entry)
        spec = OutputSpec(
            view=file.view,
            base=file.base,
            cluster_size=options.cluster_size,
            backing_name=backing_name,
            backing_format=backing_format,
            packed=options.packed,
        )

        def open_base() -> Chain:
            base = catalog.entries.get(file.base or "")
            if base is None:
                where = file.base or file.path
                raise SourceChangedError("removed since its folder was searched", where=where, remedy="look again")
            return Chain.open(catalog.policy, base.file_path, base.snapshot, stated=base.format)

        image = open_image(catalog.policy, ImageRef(entry.file_path, entry.snapshot, entry.format), spec, open_base)
        with ExitStack() as unless_in_state:
            unless_in_state.callback(image.close)
            if not _is_in_state(catalog, file, source, image):
                for each in image.chain.files:
                    each.linger()  # so that it can be told whether what the next search finds are but other metadata
                raise SourceChangedError("changed since its folder was searched", where=file.path, remedy="look again")
            unless_in_state.pop_all()
        return image

    return open_in_state


def _recorded(catalog: Catalog, file: ImageFile, entry: Entry) -> tuple[str | None, str | None]:
    """Return name and format that a delta records of its base: those that this has beside the delta."""
    if file.base is None or (base := catalog.entries.get(file.base)) is None:
        return None, None
    called = names.in_delta(base.path, base.format)
    return names.delta_backing_name(names.in_delta(entry.path, entry.format), called), names.base_view(base.format)


def _is_in_state(catalog: Catalog, file: ImageFile, source: Source, image: Image) -> bool:
    """Tell whether the open image is what the catalog described: the same files in the same state."""
    described = described_files(catalog, file)
    return image.chain.was(described, settled=True) and generation_of(catalog, file) == source.generation
