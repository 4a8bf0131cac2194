"""What fuzzing of formats other than qcow2 finds: what goes wrong is planted, and must be told."""

from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.torture import foreign
from tests.torture.foreign import damaged_chain, try_foreign
from tests.torture.foreign_formats import FOREIGN
from tests.torture.memory_guard import Memory
from tests.torture.sections import SECTIONS
from tests.torture.tally import Kind, Tally
from vdifs.output.image import Image

EACH = pytest.mark.parametrize("name", list(FOREIGN))
SEEDS = range(24)


def tried(name: str, folder: Path, seeds: range = SEEDS) -> Tally:
    """Try seeds, all in one tally."""
    for tool in "qemu-img", "prlimit":
        require_tool(tool)
    told, memory = Tally(), Memory()
    for seed in seeds:
        tally = try_foreign(FOREIGN[name], None, memory, seed, folder)
        told.findings += tally.findings
        for fact, count in tally.facts.items():
            told.add(fact, count)
    return told


@EACH
def test_damaged_chains_are_read_or_refused(name: str, tmp_path: Path) -> None:
    tally = tried(name, tmp_path)
    assert tally.findings == []
    assert tally.facts["accepted"] >= 8
    assert tally.facts["refused"] >= 5
    assert tally.facts["compared with a simple reader"] >= 8
    assert tally.facts["synthetic files proved"] >= 5
    assert tally.facts["commands"] >= 5


@EACH
def test_a_wrong_byte_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_wrong_byte(image: Image, offset: int, length: int) -> bytes:
        data = bytearray(image.view_at(offset, length))
        data[-1] ^= 1
        return bytes(data)

    monkeypatch.setattr(Image, "read_at", one_wrong_byte)
    tally = tried(name, tmp_path, range(8))
    assert {finding.kind for finding in tally.findings} == {Kind.WRONG}
    assert any("raw contents from 0x" in each.what and "files" in each.what for each in tally.findings)


@EACH
def test_a_seed_gives_the_same_chain_again_and_most_are_damaged(name: str) -> None:
    damaged = 0
    for seed in SEEDS:
        files, history = damaged_chain(FOREIGN[name], seed)
        assert (files, history) == damaged_chain(FOREIGN[name], seed)
        damaged += len(history) > 1
    assert len(SEEDS) / 2 < damaged < len(SEEDS), "and some are as they were made"


@EACH
def test_chains_that_are_not_damaged_are_all_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_damage", lambda *_: "nothing")
    tally = tried(name, tmp_path, range(10))
    assert tally.findings == []
    assert (tally.facts["accepted"], tally.facts["compared with a simple reader"]) == (10, 10)
    assert "reads refused" not in tally.facts


@EACH
def test_right_checksums_are_told_of_formats_that_have_some(name: str) -> None:
    told = " ".join(" ".join(damaged_chain(FOREIGN[name], seed)[1]) for seed in range(12))
    assert ("right checksums" in told) == (name in ("vpc", "vhdx"))


def test_rules_that_no_random_number_breaks_are_broken() -> None:
    told = "; ".join("; ".join(damaged_chain(FOREIGN["vmdk"], seed)[1]) for seed in range(400))
    for what in (
        "a journal to replay",
        "a grain of the type",
        "a packed grain of",
        "a capacity of",
        "again b'",
        "now b'NOACCESS",
    ):
        assert told.count(what) >= 3, what


def test_each_format_is_a_section_of_20_000_chains() -> None:
    known = {each.key: each.long for each in SECTIONS}
    assert {name: known[f"fuzz-{name}"] for name in FOREIGN} == dict.fromkeys(FOREIGN, 20_000)
