"""The JSON of `info`, kept for all snapshots of a file, each of which tells of all others too.

text    ..."virtual-size": 0, ... "snapshot": "" ...     size and label: the snapshot's, filled in for each anew
"""

import json
import zlib
from collections.abc import Hashable
from typing import Any

from vdifs.catalog.entry import Entry
from vdifs.chain.links import ImageRef
from vdifs.chain.policy import Policy
from vdifs.output.cache import ByteBoundedCache
from vdifs.pace import give_way
from vdifs.report.info import describe, info_json
from vdifs.wording import json_name

__all__ = ["KeptInfo"]

_LEAST_OF_SNAPSHOT = 240
"""Bytes that `info` tells of a snapshot: of very many, not one is read in vain."""
_PARTS_AT_ONCE = 4096


class KeptInfo:
    """What is told of images; of files with snapshots the last ones are kept, packed."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._packed: ByteBoundedCache[bytes] = ByteBoundedCache(1 << 20, len)

    def text(self, policy: Policy, entry: Entry, most: int) -> bytes | None:
        """Return the JSON of an image, None if it has more than `most` bytes.

        Raises FormatError, StorageError and what keeps the file from being opened.
        """
        if entry.snapshots * _LEAST_OF_SNAPSHOT > most:
            return None
        if entry.snapshot is None:
            text = _encoded(_described(policy, entry), most)
            return None if text is None else text + b"\n"
        key: Hashable = entry.file_path, entry.format, entry.fingerprints, entry.backing_path
        packed = self._packed.get(key)
        if packed is None:
            value = _described(policy, entry)
            value.pop("snapshot_hex", None)
            text = _encoded(value | {"virtual-size": 0, "snapshot": ""}, most)
            if text is None:
                return None
            packed = zlib.compress(text, 1)
            self._packed.put(key, packed)
        return _of_snapshot(zlib.decompress(packed), entry.snapshot, entry.virtual_size)


def _of_snapshot(text: bytes, label: str, virtual_size: int | None) -> bytes:
    """Return what was told of all snapshots with what is one's own: no other line of it is like these two."""
    before, _, after = text.partition(b'\n    "snapshot": ""')
    size = json.dumps(virtual_size).encode()
    before = before.replace(b'\n    "virtual-size": 0,', b'\n    "virtual-size": ' + size + b",", 1)
    named = json.dumps(json_name("snapshot", label), indent=4).encode()[1:-2]
    return b"".join([before, named, after, b"\n"])


def _described(policy: Policy, entry: Entry) -> dict[str, Any]:
    name = policy.display(entry.file_path)
    return info_json(describe(policy, ImageRef(entry.file_path, entry.snapshot, entry.format), name))


def _encoded(value: dict[str, Any], most: int) -> bytes | None:
    found = bytearray()
    for number, part in enumerate(json.JSONEncoder(indent=4).iterencode(value)):
        if not number % _PARTS_AT_ONCE:
            give_way()
        found += part.encode()
        if len(found) > most:
            return None
    return bytes(found)
