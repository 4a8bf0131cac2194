"""What `.vdifs/status.json` and `vdifs status` tell of a mount: what it serves, what not and why, who reads what.

Values, and their JSON; the mount gathers them, the command reads them there. Loads no numpy.
"""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import vdifs
from vdifs.errors import VdifsError
from vdifs.formats.problems import Severity
from vdifs.wording import json_name

__all__ = [
    "SCHEMA",
    "Counters",
    "MountProblem",
    "MountStatus",
    "OpenFile",
    "ServedImage",
    "errno_name",
    "status_json",
]

SCHEMA = 1


@dataclass(slots=True)
class Counters:
    """What was done since the mount began."""

    lookups: int = 0
    stats: int = 0
    listings: int = 0
    opens: int = 0
    reads: int = 0
    bytes_read: int = 0
    failed_reads: int = 0
    scans: int = 0


@dataclass(frozen=True, slots=True)
class ServedImage:
    """One image of the source, whether it is served or not."""

    path: str
    format: str
    virtual_size: int | None
    backing_path: str | None
    served: bool


@dataclass(frozen=True, slots=True)
class MountProblem:
    """Something that is not served, or not known. keeps: PATHs of the images that it keeps from being served.

    path: PATH of what it is about, if that has one. file: the synthetic file that could not be opened. place: the
    folder of which it is not known what it holds now, "" for SOURCE itself.
    """

    error: VdifsError
    severity: Severity
    kind: str
    keeps: Sequence[str] = ()
    path: str | None = None
    file: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One open synthetic file. path: in the mount. position: where its last read ended. opened: seconds since 1970."""

    path: str
    size: int
    position: int
    bytes_read: int
    opened: float

    @classmethod
    def all_in(cls, report: Mapping[str, Any]) -> list[Self]:
        """Return the open files that a report, read from JSON, tells of; names without what is no UTF-8 in them."""
        return [
            cls(each["file"], each["size"], each["position"], each["bytes_read"], each["opened"])
            for each in report["open_files"]
        ]


@dataclass(frozen=True, slots=True)
class MountStatus:
    """All that is told of a mount. started: seconds since 1970. log: where it goes, in a word; None for nowhere.

    confinement: what the daemon has given up. views: the folders of files that it shows. images: by PATH.
    images_to_open: those of which it is not known yet whether they can be opened.
    """

    pid: int
    source: str
    mountpoint: str
    started: float
    confinement: Mapping[str, bool | int | None]
    log: str | None
    permissions_overridden: bool
    views: Sequence[str]
    images: Sequence[ServedImage]
    images_to_open: int
    problems: Sequence[MountProblem]
    counters: Counters
    images_open: int
    inodes_known: int
    open_files: Sequence[OpenFile]


def status_json(status: MountStatus) -> dict[str, Any]:
    """Return the report for JSON, one object."""
    return {
        "schema": SCHEMA,
        "version": vdifs.__version__,
        "pid": status.pid,
        **json_name("source", status.source),
        **json_name("mountpoint", status.mountpoint),
        "started": status.started,
        "confinement": dict(status.confinement),
        "log": status.log,
        "permissions_overridden": status.permissions_overridden,
        "views": list(status.views),
        "images": [_image_json(image) for image in status.images],
        "images_to_open": status.images_to_open,
        "problems": [_problem_json(problem) for problem in status.problems],
        "counters": asdict(status.counters),
        "images_open": status.images_open,
        "inodes_known": status.inodes_known,
        "open_files": [_open_file_json(file) for file in status.open_files],
    }


def errno_name(number: int) -> str:
    """Return the symbol of an errno; of the two names that 95 has on Linux the one that open(2) documents."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))


def _image_json(image: ServedImage) -> dict[str, Any]:
    return {
        **json_name("name", image.path),
        "format": image.format,
        "virtual_size": image.virtual_size,
        **({} if image.backing_path is None else json_name("backing", image.backing_path)),
        "served": image.served,
    }


def _problem_json(problem: MountProblem) -> dict[str, Any]:
    where = {"place": problem.place, "name": problem.path, "file": problem.file}
    value: dict[str, Any] = {}
    for key, name in where.items():
        if name is not None:
            value |= json_name(key, name)
    return value | {
        "errno": errno_name(problem.error.errno),
        "message": str(problem.error),
        "severity": str(problem.severity),
        "kind": problem.kind,
        "keeps": [json_name("name", path) for path in problem.keeps],
    }


def _open_file_json(file: OpenFile) -> dict[str, Any]:
    return {
        **json_name("file", file.path),
        "size": file.size,
        "position": file.position,
        "bytes_read": file.bytes_read,
        "opened": file.opened,
    }
