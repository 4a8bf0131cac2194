"""What a mount says about each image in `.vdifs/info/` and `.vdifs/map/`: the JSON of `info` and `map`."""

import json
import zlib
from collections.abc import Hashable, Mapping
from typing import Any

from vdifs.chain.entry import Entry
from vdifs.chain.links import ImageRef
from vdifs.chain.open_chain import Chain
from vdifs.chain.policy import Policy
from vdifs.cli.commands.info import describe, described_as_json
from vdifs.cli.render.map_text import map_text
from vdifs.cli.render.text import json_name
from vdifs.mount.serving.sidecars import Describe, too_long
from vdifs.output.cache import ByteBoundedCache
from vdifs.pace import give_way

__all__ = ["SIDECARS"]

_LEAST_OF_SNAPSHOT = 240
"""Bytes that `info` tells of a snapshot: of very many, not one is read in vain."""
_PARTS_AT_ONCE = 4096
_infos: ByteBoundedCache[bytes] = ByteBoundedCache(1 << 20, len)
"""What is told of the snapshots of a file, each with a list of all of them: the label and the size left out, packed."""


def _info(policy: Policy, entry: Entry, most: int) -> bytes:
    if entry.snapshots * _LEAST_OF_SNAPSHOT > most:
        raise too_long(entry.path, "info", most)
    if entry.snapshot is None:
        return _encoded(entry, _described(policy, entry), most) + b"\n"
    key: Hashable = entry.file_path, entry.format, entry.fingerprints, entry.backing_path
    packed = _infos.get(key)
    if packed is None:
        value = _described(policy, entry)
        value.pop("snapshot_hex", None)
        packed = zlib.compress(_encoded(entry, value | {"virtual-size": 0, "snapshot": ""}, most), 1)
        _infos.put(key, packed)
    # No line within a string or deeper in the object is like these two.
    before, _, after = zlib.decompress(packed).partition(b'\n    "snapshot": ""')
    size = json.dumps(entry.virtual_size).encode()
    before = before.replace(b'\n    "virtual-size": 0,', b'\n    "virtual-size": ' + size + b",", 1)
    label = json.dumps(json_name("snapshot", entry.snapshot), indent=4).encode()[1:-2]
    return b"".join([before, label, after, b"\n"])


def _described(policy: Policy, entry: Entry) -> dict[str, Any]:
    name = policy.display(entry.file_path)
    return described_as_json(describe(policy, ImageRef(entry.file_path, entry.snapshot, entry.format), name))


def _encoded(entry: Entry, value: dict[str, Any], most: int) -> bytes:
    found = bytearray()
    for number, part in enumerate(json.JSONEncoder(indent=4).iterencode(value)):
        if not number % _PARTS_AT_ONCE:
            give_way()
        found += part.encode()
        if len(found) > most:
            raise too_long(entry.path, "info", most)
    return bytes(found)


def _map(policy: Policy, entry: Entry, most: int) -> bytes:
    with Chain.open(policy, entry.file_path, entry.snapshot, stated=entry.format) as chain:
        text = map_text(chain, most)
        chain.check_unchanged()
    if text is None:
        raise too_long(entry.path, "map", most)
    return text


SIDECARS: Mapping[str, Describe] = {"info": _info, "map": _map}
