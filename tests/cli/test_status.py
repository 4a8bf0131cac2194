"""What `vdifs status` says of a report, and what of a folder that has none. Real mounts: tests/mount."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Vdifs
from vdifs.cli.render.status_text import Rates, Reading, duration_text, file_line, report_fields
from vdifs.cli.render.text import age_text
from vdifs.report.status import OpenFile

REPORT = {
    "schema": 1,
    "version": "1.2.3",
    "pid": 77,
    "source": "/src",
    "mountpoint": "/mnt",
    "started": 1000.0,
    "permissions_overridden": False,
    "images": [{"name": "a.qcow2", "served": True}, {"name": "b.qcow2", "served": False}],
    "problems": [{"name": "b.qcow2", "errno": "EIO", "message": "b.qcow2: broken: mend it"}],
    "counters": {"bytes_read": 3 << 20, "reads": 24, "failed_reads": 1, "opens": 2},
    "open_files": [{"file": "full/a.qcow2", "size": 4096, "position": 1024, "bytes_read": 2048, "opened": 1001.0}],
}


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A folder that looks like a mount."""
    (tmp_path / ".vdifs").mkdir()
    (tmp_path / ".vdifs/status.json").write_text(json.dumps(REPORT))
    return tmp_path


def test_a_report_in_words() -> None:
    assert list(report_fields(REPORT, 1000.0 + 7300)) == [
        ("source", "/src"),
        ("mountpoint", "/mnt"),
        ("mounted", "2 hours ago, process 77, vdifs 1.2.3"),
        ("images", "1 served, 1 refused"),
        ("read", "3 MiB in 24 requests, 1 failed; 2 files opened"),
        ("problem", "b.qcow2: broken: mend it"),
        ("open file", "full/a.qcow2: 25.0 %, 1 KiB of 4 KiB"),
    ]


def test_json_is_the_report_itself(mount: Path, vdifs: Vdifs) -> None:
    status, out, err = vdifs("status", mount, "--output", "json")
    assert (status, json.loads(out), err) == (0, REPORT, "")


def test_a_name_in_a_report_cannot_move_the_cursor(mount: Path, vdifs: Vdifs) -> None:
    text = json.dumps(REPORT | {"source": "a\nb\x1b[2J"})
    (mount / ".vdifs/status.json").write_text(text)
    assert vdifs("status", mount).out.splitlines()[0] == r"source: a\nb\x1b[2J"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (None, "no vdifs mount: name the mountpoint of a 'vdifs mount'"),
        ("{", ".vdifs/status.json is no report of vdifs: name the mountpoint of a 'vdifs mount'"),
        ("[]", "another version of vdifs serves it: ask with that one"),
        ('{"schema": 2}', "another version of vdifs serves it: ask with that one"),
    ],
)
def test_what_is_no_mount_is_refused(contents: str | None, said: str, mount: Path, vdifs: Vdifs) -> None:
    report = mount / ".vdifs/status.json"
    report.unlink()
    if contents is not None:
        report.write_text(contents)
    for words in [(), ("--watch",), ("--output", "json")]:
        assert vdifs("status", mount, *words) == (1, "", f"vdifs: {mount}: {said}\n")


def at(position: int, bytes_read: int) -> OpenFile:
    return OpenFile("full/a", 1000, position, bytes_read, 5.0)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rates = Rates()
    assert [reading.rate for reading in rates.update([at(0, 0)], 100.0)] == [None]
    assert [reading.rate for reading in rates.update([at(100, 100)], 101.0)] == [100.0]
    still = [rates.update([at(100, 100)], 100.0 + second)[0] for second in range(2, 12)]
    assert [reading.rate for reading in still] == sorted((reading.rate or 0.0 for reading in still), reverse=True)
    assert (still[-1].rate, still[-1].seconds_left) == (0.0, None)
    (reading,) = rates.update([at(200, 200)], 112.0)
    assert reading.rate == pytest.approx(100 / 6, rel=0.2)


def test_a_file_that_is_opened_anew_begins_anew() -> None:
    rates = Rates()
    rates.update([at(500, 500)], 1.0)
    rates.update([], 2.0)
    assert rates.update([at(500, 500)], 3.0)[0].rate is None


def test_a_line_for_an_open_file() -> None:
    assert file_line(Reading(OpenFile("f", 4 << 20, 1 << 20, 0, 0.0), float(1 << 20))) == (
        "f: 25.0 %, 1 MiB of 4 MiB, 1 MiB/s, 0:03 left"
    )
    assert file_line(Reading(OpenFile("f", 0, 0, 0, 0.0))) == "f: 100.0 %, 0 B of 0 B"


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (3 * 3600 + 62, "3:01:02")])
def test_a_duration(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (365 * 3 * 86400, "3 years"),
    ],
)
def test_an_age(seconds: int, text: str) -> None:
    assert age_text(seconds) == text
