"""One problem, however many images it keeps from being served: which of them is the one that has it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from vdifs.errors import VdifsError

__all__ = ["Refusal", "place_of", "refusals"]


class Refusal(NamedTuple):
    """Why images cannot be served. path: the one to look at; the others stand on it, or name the same file."""

    path: str
    error: VdifsError
    keeps: tuple[str, ...]


def refusals(problems: Iterable[tuple[str, VdifsError]], backing_of: Callable[[str], str | None]) -> list[Refusal]:
    """Return each problem once, sorted by path. problems: of images by PATH, any of them more than once.

    backing_of: returns the PATH of an image's backing file.
    """
    groups: dict[object, dict[str, VdifsError]] = {}
    for path, error in problems:
        groups.setdefault(error.subject, {}).setdefault(path, error)
    found = []
    for group in groups.values():
        path = place_of(group, backing_of)
        found.append(Refusal(path, group[path], tuple(sorted(group))))
    return sorted(found, key=lambda refusal: refusal.path)


def place_of(group: Mapping[str, object], backing_of: Callable[[str], str | None]) -> str:
    """Return the first of the images in `group`, by PATH, that does not stand on another one in it."""
    paths = sorted(group)
    return next((path for path in paths if backing_of(path) not in group), paths[0])
