"""What a mount says about each image in `.vdifs/info/` and `.vdifs/map/`: the JSON of `info` and `map`."""

import json
from collections.abc import Mapping

from vdifs.cli.info import describe, described_as_json
from vdifs.cli.map_text import map_text
from vdifs.mount.sidecars import Describe, too_long
from vdifs.source.chain import Chain
from vdifs.source.entry import Entry
from vdifs.source.policy import Policy

__all__ = ["SIDECARS"]

_LEAST_OF_SNAPSHOT = 240
"""Bytes that `info` tells of a snapshot: of very many, not one is read in vain."""


def _info(policy: Policy, entry: Entry, most: int) -> bytes:
    if entry.snapshots * _LEAST_OF_SNAPSHOT > most:
        raise too_long(entry.path, "info", most)
    described = describe(policy, entry.file_path, policy.display(entry.file_path), entry.format, entry.snapshot)
    found = bytearray()
    for part in json.JSONEncoder(indent=4).iterencode(described_as_json(described)):
        found += part.encode()
        if len(found) > most:
            raise too_long(entry.path, "info", most)
    return bytes(found + b"\n")


def _map(policy: Policy, entry: Entry, most: int) -> bytes:
    with Chain.open(policy, entry.file_path, entry.snapshot, stated=entry.format) as chain:
        text = map_text(chain, most)
        chain.check_unchanged()
    if text is None:
        raise too_long(entry.path, "map", most)
    return text


SIDECARS: Mapping[str, Describe] = {"info": _info, "map": _map}
