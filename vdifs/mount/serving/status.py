"""`.vdifs/status.json`: what is served, what is refused and why, counters, open files. Pure: values in, bytes out."""

import errno
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import vdifs
from vdifs.chain.entry import Entry
from vdifs.chain.grouping import refusals
from vdifs.errors import VdifsError
from vdifs.formats.problems import Severity
from vdifs.mount.serving.handles import Handle
from vdifs.mount.view.confinement import Confinement
from vdifs.mount.view.log_destination import log_destination
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.options import MountOptions
from vdifs.mount.view.tree import Tree
from vdifs.report.findings import failed

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
    """What a report is made of. failures: files that could not be opened. started: seconds since 1970.

    images_to_open: those of which it is not known yet whether they can be opened.
    trouble: why it is not known what the source holds now.
    """

    options: MountOptions
    tree: Tree
    started: float
    counters: Counters
    images_open: int
    inodes_known: int
    confinement: Confinement
    open_files: Sequence[Handle] = ()
    failures: Sequence[tuple[ImageFile, VdifsError]] = ()
    images_to_open: int = 0
    trouble: VdifsError | None = None


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
        "images_to_open": status.images_to_open,
        "problems": list(_problems(status)),
        "counters": asdict(status.counters),
        "images_open": status.images_open,
        "inodes_known": status.inodes_known,
        "open_files": [_open_file(handle) for handle in status.open_files],
    }


def _images(status: Status) -> list[dict[str, object]]:
    refused = {path for path, _ in _refused(status)}
    return [_image(status.tree.entries[path], refused) for path in sorted(status.tree.entries)]


def _image(entry: Entry, refused: Collection[str]) -> dict[str, object]:
    return {
        **name_fields("name", entry.path),
        "format": entry.format,
        "virtual_size": entry.virtual_size,
        **({} if entry.backing_path is None else name_fields("backing", entry.backing_path)),
        "served": entry.path not in refused,
    }


def _refused(status: Status) -> Iterator[tuple[str, VdifsError]]:
    """Yield the images that are not served, each with why: what headers tell, and then what opening has shown."""
    for path in status.tree.entries:
        source = status.tree.source(path)
        if source is not None and source.problem is not None:
            yield path, source.problem
    for file, error in status.failures:
        if file.path in status.tree.entries:
            yield file.path, error


def _problems(status: Status) -> Iterator[dict[str, object]]:
    """Yield each problem once, with the images that it keeps from being served."""
    tree = status.tree
    files = {file.path: next(iter(tree.paths(file)), file.path) for file, _ in status.failures}
    refused = list(_refused(status))
    yield from _troubles(status, refused)
    in_trouble = {id(trouble) for trouble in tree.troubles.values()}
    others = (each for each in refused if id(each[1]) not in in_trouble)
    for path, error, keeps in refusals(others, lambda each: tree.entries[each].backing_path):
        named = name_fields("name", path) | (name_fields("file", files[path]) if path in files else {})
        kept = [name_fields("name", each) for each in keeps]
        found = failed(path, error)
        yield named | _problem(error) | {"severity": str(found.severity), "kind": found.kind, "keeps": kept}
    for left_out in tree.left_out:
        named = name_fields("name", left_out.path) if left_out.path else {}
        told = {"severity": str(left_out.severity), "kind": left_out.kind, "keeps": list[object]()}
        yield named | _problem(left_out.error) | told
    for error in tree.problems():
        yield _problem(error) | {"severity": str(Severity.WARNING), "kind": "name-taken", "keeps": list[object]()}


def _troubles(status: Status, refused: Iterable[tuple[str, VdifsError]]) -> Iterator[dict[str, object]]:
    """Yield the places of which it cannot be told what they hold now; "" is SOURCE itself."""
    found = list(status.tree.troubles.items())
    if status.trouble is not None:
        found.insert(0, ("", status.trouble))
    for place, trouble in found:
        keeps = [name_fields("name", path) for path, error in refused if error is trouble]
        told = {"severity": str(Severity.ERROR), "kind": "trouble", "keeps": keeps}
        yield name_fields("place", place) | _problem(trouble) | told


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
