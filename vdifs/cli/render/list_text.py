"""The tree of `vdifs list` as rows: what stands where, in words. Pure: images in, text out.

base.qcow2                guides  ""            below  "│   "    (under base.qcow2, above its overlays)
└── monday.qcow2          guides  "└── "        below  "    │   "
    └── tuesday.qcow2     guides  "    └── "    below  "        "
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vdifs.cli.render.text import age_text
from vdifs.errors import printable
from vdifs.report.list import ListedImage, roots_and_overlays
from vdifs.wording import size_text

__all__ = ["Row", "plain_line", "rows_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One image. guides: the lines of the tree before its name; below: those of a line between it and its overlays."""

    guides: str
    below: str
    name: str
    virtual_size: str
    own_data: str
    age: str
    in_use: bool
    hidden: bool
    problem: str


def rows_of(images: Mapping[str, ListedImage], now: float) -> Iterator[Row]:
    """Yield the rows of the tree from top to bottom. now: seconds since 1970.

    What keeps several images from being served is told of the first of them; the others say which that is.
    """
    roots, overlays = roots_and_overlays(images)
    told: dict[object, str] = {}
    waiting = [(path, "", "") for path in reversed(roots)]
    while waiting:
        path, guides, before = waiting.pop()
        above = overlays[path]
        problem = _problem_text(images[path], told)
        yield _row(images[path], guides, before + ("│   " if above else "    "), problem, now)
        for number, overlay in reversed(list(enumerate(above))):
            last = number == len(above) - 1
            waiting.append((overlay, before + ("└── " if last else "├── "), before + ("    " if last else "│   ")))


def plain_line(row: Row) -> str:
    """Return the line for an image, for pipes: everything that is known of it."""
    facts = [row.virtual_size or "size unknown"]
    if row.own_data:
        facts.append(f"{row.own_data} of its own")
    if row.age:
        facts.append(f"{row.age} old")
    marks = [mark for mark, there in (("in use", row.in_use), ("hidden", row.hidden)) if there]
    return "  ".join([row.guides + row.name, ", ".join(facts), *marks, *([row.problem] if row.problem else [])])


def _problem_text(image: ListedImage, told: dict[object, str]) -> str:
    """Return what is wrong with an image. told: which image has been told to have a problem."""
    if image.problem is None:
        return ""
    first = told.setdefault(image.problem.subject, image.path)
    return str(image.problem) if first == image.path else f"not served: see {printable(first)}"


def _row(image: ListedImage, guides: str, below: str, problem: str, now: float) -> Row:
    return Row(
        guides,
        below,
        printable(image.path),
        "" if image.virtual_size is None else size_text(image.virtual_size),
        "" if image.own_data is None else size_text(image.own_data),
        "" if image.modified is None else age_text(now - image.modified),
        image.live,
        image.hidden,
        problem,
    )
