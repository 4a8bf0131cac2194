"""What a mount says about each image in `.vdifs/info/` and `.vdifs/map/`: the JSON of `info` and `map`."""

import json
from collections.abc import Mapping

from vdifs.cli.info import describe, described_as_json
from vdifs.cli.map import run_as_json
from vdifs.mount.sidecars import Describe
from vdifs.source.chain import Chain
from vdifs.source.entry import Entry
from vdifs.source.map import map_runs
from vdifs.source.policy import Policy

__all__ = ["SIDECARS"]


def _info(policy: Policy, entry: Entry, _most: int) -> bytes:
    described = describe(policy, entry.file_path, policy.display(entry.file_path), entry.format, entry.snapshot)
    return json.dumps(described_as_json(described), indent=4).encode() + b"\n"


def _map(policy: Policy, entry: Entry, most: int) -> bytes:
    with Chain.open(policy, entry.file_path, entry.snapshot, stated=entry.format) as chain:
        parts: list[str] = []
        length = 0
        for run in map_runs(chain):
            parts.append(json.dumps(run_as_json(chain, run)))
            length += len(parts[-1])
            if length > most:
                break
        chain.check_unchanged()
    return b"[" + ",\n".join(parts).encode() + b"]\n"


SIDECARS: Mapping[str, Describe] = {"info": _info, "map": _map}
