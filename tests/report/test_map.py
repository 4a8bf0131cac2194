"""The runs of a map, as values and JSON. That they are right: tests/cli/test_map_and_measure.py, tests/qemu."""

import os
from pathlib import Path

from tests.support import oracle
from tests.support.builder import make
from vdifs.chain.naming import ImageName, open_chain
from vdifs.report.map import MapRun, map_runs, named_run_json, run_json

KIB = 1 << 10
DATA = MapRun(0, 64 * KIB, 0, present=True, zero=False, data=True, compressed=False, offset=327680, file=0)
NOTHING = MapRun(64 * KIB, 960 * KIB, 1, present=False, zero=True, data=False, compressed=False, offset=None, file=1)


def test_runs_are_told_as_by_qemu_img(tmp_path: Path) -> None:
    make(tmp_path / "base.qcow2", 1 << 20)
    make(tmp_path / "top.qcow2", 1 << 20, backing=("base.qcow2", "qcow2"))
    oracle.qemu_io("top.qcow2", ["write -P 1 0 64k"], cwd=tmp_path)
    with open_chain(ImageName.parse(os.fspath(tmp_path / "top.qcow2")), (), "refuse") as chain:
        runs = list(map_runs(chain))
        assert runs == [DATA, NOTHING]
        assert named_run_json(chain, DATA) == run_json(DATA) | {"filename": os.fspath(tmp_path / "top.qcow2")}
        assert named_run_json(chain, NOTHING) == run_json(NOTHING)
        assert [run.depth for run in map_runs(chain, 1)] == [0, 1]


def test_json_is_that_of_qemu_img_map() -> None:
    assert list(run_json(DATA).items()) == [
        ("start", 0),
        ("length", 65536),
        ("depth", 0),
        ("present", True),
        ("zero", False),
        ("data", True),
        ("compressed", False),
        ("offset", 327680),
    ]
    assert "offset" not in run_json(NOTHING)
