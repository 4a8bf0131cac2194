"""What a mount tells of the snapshots of a file: each with a list of all of them, which is made once."""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.many_snapshots import write_snapshots
from vdifs.catalog.catalog import Catalog
from vdifs.cli.main import main
from vdifs.formats.qcow2 import describe
from vdifs.formats.qcow2.snapshots import Snapshot
from vdifs.report.kept_info import KeptInfo

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
    original = describe.snapshots_json

    def snapshots_json(snapshots: Sequence[Snapshot]) -> list[dict[str, Any]]:
        listed.append(len(snapshots))
        return original(snapshots)

    monkeypatch.setattr("vdifs.formats.qcow2.describe.snapshots_json", snapshots_json)
    with closing(Catalog(os.fspath(image.parent))) as catalog:
        catalog.scan()
        entries = [entry for entry in catalog.entries.values() if entry.snapshot is not None]
        kept = KeptInfo()
        told = {entry.snapshot: kept.text(catalog.policy, entry, MOST) or b"" for entry in entries}
    assert len(told) == COUNT
    assert listed == [COUNT]
    for label, text in told.items():
        assert main(["info", f"{image}@{label}", "--output", "json"]) == 0
        said = capfd.readouterr().out
        assert json.loads(text) == {**json.loads(said), "filename": json.loads(text)["filename"]}
        assert list(json.loads(text)) == list(json.loads(said))


def test_what_is_too_long_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_snapshots(tmp_path / "a.qcow2", COUNT)
    kept = KeptInfo()
    with closing(Catalog(os.fspath(tmp_path))) as catalog:
        catalog.scan()
        for name in ("a.qcow2", "a.qcow2@s000003"):
            entry = catalog.entries[name]
            text = kept.text(catalog.policy, entry, MOST) or b""
            assert json.loads(text)["virtual-size"] == entry.virtual_size
            assert KeptInfo().text(catalog.policy, entry, len(text) // 2) is None
        monkeypatch.setattr("vdifs.report.kept_info.describe", lambda *_: pytest.fail("looked at in vain"))
        assert KeptInfo().text(catalog.policy, catalog.entries["a.qcow2"], 100 * COUNT) is None


def test_what_has_no_snapshots_is_told_as_by_info(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1000))
    with closing(Catalog(os.fspath(tmp_path))) as catalog:
        catalog.scan()
        text = KeptInfo().text(catalog.policy, catalog.entries["disk.raw"], MOST) or b""
    assert main(["info", f"{tmp_path}/disk.raw", "--output", "json"]) == 0
    assert text.decode() == capfd.readouterr().out
