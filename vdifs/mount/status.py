"""`.vdifs/status.json`: what is served, what is refused and why, counters, open files. Pure: values in, bytes out."""

import errno
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter

import vdifs
from vdifs.errors import VdifsError
from vdifs.mount.confinement import Confinement
from vdifs.mount.handles import Handle
from vdifs.mount.logs import log_destination
from vdifs.mount.nodes import ImageFile
from vdifs.mount.options import MountOptions
from vdifs.mount.tree import Tree

__all__ = ["Counters", "Status", "errno_name", "name_fields", "status_json"]

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
class Status:
    """What a report is made of. failures: files that could not be opened. started: seconds since 1970."""

    options: MountOptions
    tree: Tree
    started: float
    counters: Counters
    images_open: int
    inodes_known: int
    confinement: Confinement
    open_files: Sequence[Handle] = ()
    failures: Sequence[tuple[ImageFile, VdifsError]] = ()


def status_json(status: Status) -> bytes:
    """Return the report as JSON, one object, ending in a newline."""
    return json.dumps(_report(status), indent=1).encode() + b"\n"


def name_fields(key: str, name: str) -> dict[str, str]:
    """Return a name for JSON: U+FFFD for what is no UTF-8, and then the exact bytes in hexadecimal beside it."""
    exact = os.fsencode(name)
    try:
        return {key: exact.decode()}
    except UnicodeDecodeError:
        return {key: exact.decode(errors="replace"), f"{key}_hex": exact.hex()}


def errno_name(number: int) -> str:
    """Return the symbol of an errno; of the two names that 95 has on Linux the one that open(2) documents."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))


def _report(status: Status) -> dict[str, object]:
    options = status.options
    return {
        "schema": SCHEMA,
        "version": vdifs.__version__,
        "pid": os.getpid(),
        **name_fields("source", options.source),
        **name_fields("mountpoint", options.mountpoint),
        "started": status.started,
        "confinement": asdict(status.confinement),
        "log": log_destination(options),
        "permissions_overridden": options.overrides_permissions,
        "images": _images(status),
        "problems": list(_problems(status)),
        "counters": asdict(status.counters),
        "images_open": status.images_open,
        "inodes_known": status.inodes_known,
        "open_files": [_open_file(handle) for handle in status.open_files],
    }


def _images(status: Status) -> list[dict[str, object]]:
    failed = {file.path for file, _ in status.failures}
    return [_image(status.tree, path, failed) for path in sorted(status.tree.entries)]


def _image(tree: Tree, path: str, failed: Collection[str]) -> dict[str, object]:
    entry, source = tree.entries[path], tree.source(path)
    return {
        **name_fields("name", path),
        "format": entry.format,
        "virtual_size": entry.virtual_size,
        **({} if entry.backing_path is None else name_fields("backing", entry.backing_path)),
        "served": source is not None and source.problem is None and path not in failed,
    }


def _problems(status: Status) -> Iterable[dict[str, object]]:
    tree = status.tree
    for path in sorted(tree.entries):
        source = tree.source(path)
        if source is not None and source.problem is not None:
            yield name_fields("name", path) | _problem(source.problem)
    failures = {next(iter(tree.paths(file)), file.path): error for file, error in status.failures}
    for name, error in sorted(failures.items(), key=itemgetter(0)):
        yield name_fields("file", name) | _problem(error)
    for error in tree.problems():
        yield _problem(error)


def _problem(error: VdifsError) -> dict[str, object]:
    return {"errno": errno_name(error.errno), "message": str(error)}


def _open_file(handle: Handle) -> dict[str, object]:
    return {
        **name_fields("file", handle.path),
        "size": handle.attributes.size,
        "position": handle.position,
        "bytes_read": handle.bytes_read,
        "opened": handle.opened,
    }
