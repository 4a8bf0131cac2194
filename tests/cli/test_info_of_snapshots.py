"""What a mount tells of the snapshots of a file: each with a list of all of them, which is made once."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.many_snapshots import write_snapshots
from vdifs.chain.catalog import Catalog
from vdifs.cli.main import main
from vdifs.cli.render import extras_text
from vdifs.cli.sidecars import SIDECARS
from vdifs.formats.qcow2.snapshots import Snapshot

MOST = 4 << 20
COUNT = 20


def test_all_snapshots_of_a_file_are_described_and_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "src" / "a.qcow2"
    image.parent.mkdir()
    write_snapshots(image, COUNT)
    image.write_bytes(image.read_bytes().replace(b"s000003", b"s\xff00003").replace(b"s000004", b's"\n    '))
    listed = []
    original = extras_text.snapshots_json

    def snapshots_json(snapshots: Sequence[Snapshot]) -> list[dict[str, Any]]:
        listed.append(len(snapshots))
        return original(snapshots)

    monkeypatch.setattr("vdifs.cli.commands.info.snapshots_json", snapshots_json)
    with closing(Catalog(os.fspath(image.parent))) as catalog:
        catalog.scan()
        entries = [entry for entry in catalog.entries.values() if entry.snapshot is not None]
        told = {entry.snapshot: SIDECARS["info"](catalog.policy, entry, MOST) for entry in entries}
    assert len(told) == COUNT
    assert listed == [COUNT]
    for label, text in told.items():
        assert main(["info", f"{image}@{label}", "--output", "json"]) == 0
        said = capfd.readouterr().out
        assert json.loads(text) == {**json.loads(said), "filename": json.loads(text)["filename"]}
        assert list(json.loads(text)) == list(json.loads(said))
