"""What `vdifs list` tells of each image of a source: sizes, its place among the others, what is wrong with it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from vdifs.catalog.catalog import Catalog
from vdifs.catalog.left_out import LeftOut
from vdifs.chain.open_chain import Chain, Member
from vdifs.chain.policy import Live
from vdifs.errors import VdifsError
from vdifs.extents import Kind
from vdifs.formats.problems import Severity
from vdifs.wording import json_name

__all__ = ["ListedImage", "Listing", "image_json", "list_source", "roots_and_overlays", "survey"]


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image. own_data: bytes of guest data in this file alone, None if it cannot be opened.

    modified: seconds since 1970; of a snapshot, when it was taken. live: a virtual machine is writing it.
    """

    path: str
    format: str
    virtual_size: int | None
    backing_path: str | None
    own_data: int | None
    problem: VdifsError | None
    hidden: bool = False
    modified: float | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a source. images: by PATH, sorted. left_out: why something of it is not among them, worst first."""

    images: Mapping[str, ListedImage]
    left_out: Sequence[VdifsError]


def list_source(source: str, trusted: tuple[str, ...], live: Live, at: Callable[[str], None]) -> Listing:
    """Return what is in `source`, a directory or one image. at: is told which image is looked at. Raises VdifsError."""
    with closing(Catalog(source, trusted=trusted, live=live)) as catalog:
        catalog.scan()
        catalog.check_images()
        images = survey(catalog, at)
        left_out = [*catalog.troubles.values(), *_by_severity(catalog.left_out)]
    if live == "allow":
        written = _in_use(source, trusted)
        images = {path: replace(image, live=image.live or path in written) for path, image in images.items()}
    return Listing(images, left_out)


def _by_severity(left_out: Sequence[LeftOut]) -> list[VdifsError]:
    order = list(Severity)
    return [each.error for each in sorted(left_out, key=lambda each: order.index(each.severity))]


def _in_use(source: str, trusted: tuple[str, ...]) -> set[str]:
    """Return the PATHs of the images that are being written: a catalog that serves them all the same does not look."""
    with closing(Catalog(source, trusted=trusted)) as catalog:
        catalog.scan()
        return {path for path, entry in catalog.entries.items() if entry.live}


def survey(catalog: Catalog, at: Callable[[str], None] = lambda _: None) -> dict[str, ListedImage]:
    """Return the images of a scanned catalog by PATH, sorted; opens each chain once, from its top.

    at: is told which image is looked at.
    """
    own_data: dict[tuple[str, str], int] = {}
    taken: dict[str, float | None] = {}
    dates: dict[str, dict[str, float]] = {}
    problems: dict[str, VdifsError] = {}
    for number, path in enumerate(_deepest_first(catalog)):
        if (path, catalog.entries[path].format) in own_data:
            continue
        at(f"image {number + 1} of {len(catalog.entries)}: {path}")
        try:
            entry = catalog.entries[path]
            with Chain.open(catalog.policy, entry.file_path, entry.snapshot, stated=entry.format) as chain:
                for member in reversed(chain.members):
                    if (member.path, member.format) not in own_data:
                        own_data[member.path, member.format] = _data_held(member)
                if (top := chain.members[0]).snapshot is not None:
                    if entry.file_path not in dates:
                        dates[entry.file_path] = _dates(top)
                    taken[path] = dates[entry.file_path].get(top.snapshot)
        except VdifsError as error:
            problems[path] = error
    return {
        path: ListedImage(
            path,
            entry.format,
            entry.virtual_size,
            entry.backing_path,
            own_data.get((path, entry.format)),
            entry.problem or problems.get(path),
            entry.hidden,
            taken.get(path) if entry.snapshot is not None else entry.fingerprint.mtime_ns / 1e9,
            entry.live,
        )
        for path, entry in sorted(catalog.entries.items())
    }


def image_json(image: ListedImage) -> dict[str, Any]:
    """Return what is known of an image, for JSON; what is not known is left out."""
    value: dict[str, Any] = json_name("name", image.path) | {"format": image.format}
    if image.virtual_size is not None:
        value["virtual-size"] = image.virtual_size
    if image.own_data is not None:
        value["own-data"] = image.own_data
    if image.backing_path is not None:
        value |= json_name("backing-name", image.backing_path)
    if image.modified is not None:
        value["modified"] = image.modified
    if image.live:
        value["in-use"] = True
    if image.hidden:
        value["hidden"] = True
    if image.problem is not None:
        value["problem"] = str(image.problem)
    return value


def roots_and_overlays(images: Mapping[str, ListedImage]) -> tuple[list[str], Mapping[str, list[str]]]:
    """Return the PATHs that no other image is below, and for each PATH those of the images directly on top of it.

    Every image is reached once from the roots: of a loop, the first by name becomes a root.
    """
    overlays: dict[str, list[str]] = defaultdict(list)
    roots = []
    for path, image in images.items():
        if image.backing_path is not None and image.backing_path in images:
            overlays[image.backing_path].append(path)
        else:
            roots.append(path)
    reached: set[str] = set()
    for root in roots:
        _reach(root, overlays, reached)
    for path in images:
        if path not in reached:  # only images of a loop, and what stands on them, are left
            overlays[images[path].backing_path or ""].remove(path)
            roots.append(path)
            _reach(path, overlays, reached)
    return sorted(roots), overlays


def _reach(root: str, overlays: Mapping[str, list[str]], reached: set[str]) -> None:
    waiting = [root]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting += overlays[path]


def _deepest_first(catalog: Catalog) -> list[str]:
    depths: dict[str, int] = {}
    for path in catalog.entries:
        try:
            depths[path] = len(catalog.chain(path))
        except VdifsError:
            depths[path] = 0  # opening it gives the full reason
    return sorted(depths, key=lambda path: (-depths[path], path))


def _dates(member: Member) -> dict[str, float]:
    """Return when each snapshot of a file was taken, by label, in seconds since 1970."""
    return {label: each.date_sec for label, each in member.metadata.labelled_snapshots(member.file)}


def _data_held(member: Member) -> int:
    """Return the bytes of guest data in one file."""
    held = 0
    for extents in Chain((member,)).in_parts():
        data = (extents.kind == Kind.DATA) | (extents.kind == Kind.COMPRESSED)
        held += int(extents.length[data].sum())
    return held
