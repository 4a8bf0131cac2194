"""What is told of a mount, as JSON. Real mounts: tests/mount."""

import errno
import json

import pytest

import vdifs
from vdifs.errors import FormatError, StorageError, VdifsError
from vdifs.formats.problems import Severity
from vdifs.report.status import (
    Counters,
    MountProblem,
    MountStatus,
    OpenFile,
    ServedImage,
    errno_name,
    status_json,
)

NOT_UTF_8 = "caf\udce9.qcow2"


def a_status(**parts: object) -> MountStatus:
    values: dict[str, object] = {
        "pid": 77,
        "source": "/src",
        "mountpoint": "/mnt",
        "started": 1000.5,
        "confinement": {"no_new_privs": True, "landlock": 5, "seccomp": True},
        "log": None,
        "permissions_overridden": False,
        "views": ["full", "raw"],
        "images": [],
        "images_to_open": 0,
        "problems": [],
        "counters": Counters(reads=3, bytes_read=4096),
        "images_open": 1,
        "inodes_known": 2,
        "open_files": [],
    }
    return MountStatus(**values | parts)  # type: ignore[arg-type] # by their names


def test_a_report_has_these_values_in_this_order() -> None:
    assert list(status_json(a_status()).items()) == [
        ("schema", 1),
        ("version", vdifs.__version__),
        ("pid", 77),
        ("source", "/src"),
        ("mountpoint", "/mnt"),
        ("started", 1000.5),
        ("confinement", {"no_new_privs": True, "landlock": 5, "seccomp": True}),
        ("log", None),
        ("permissions_overridden", False),
        ("views", ["full", "raw"]),
        ("images", []),
        ("images_to_open", 0),
        ("problems", []),
        (
            "counters",
            {
                "lookups": 0, "stats": 0, "listings": 0, "opens": 0, "reads": 3, "bytes_read": 4096,
                "failed_reads": 0, "scans": 0,
            },
        ),
        ("images_open", 1),
        ("inodes_known", 2),
        ("open_files", []),
    ]  # fmt: skip


def test_an_image_is_told_with_its_backing_file_if_it_has_one() -> None:
    images = [ServedImage("a.raw", "raw", 512, None, True), ServedImage(NOT_UTF_8, "qcow2", None, "a.raw", False)]
    assert status_json(a_status(images=images))["images"] == [
        {"name": "a.raw", "format": "raw", "virtual_size": 512, "served": True},
        {
            "name": "caf\ufffd.qcow2",
            "name_hex": "636166e92e71636f7732",
            "format": "qcow2",
            "virtual_size": None,
            "backing": "a.raw",
            "served": False,
        },
    ]


WHERE = [
    (MountProblem(VdifsError("no"), Severity.WARNING, "name-taken"), {}),
    (MountProblem(VdifsError("no"), Severity.ERROR, "trouble", place=""), {"place": ""}),
    (
        MountProblem(VdifsError("no"), Severity.ERROR, "damaged", ["a"], "a", "full/a"),
        {"name": "a", "file": "full/a"},
    ),
]


@pytest.mark.parametrize(("problem", "where"), WHERE, ids=["of nothing", "of a place", "of a file"])
def test_a_problem_is_told_with_its_place_first(problem: MountProblem, where: dict[str, str]) -> None:
    (told,) = status_json(a_status(problems=[problem]))["problems"]
    assert list(told) == [*where, "errno", "message", "severity", "kind", "keeps"]
    assert {key: told[key] for key in where} == where
    assert told["keeps"] == [{"name": path} for path in problem.keeps]


def test_a_problem_is_told_with_what_to_do_and_as_an_errno() -> None:
    problems = [
        MountProblem(FormatError("a: damaged"), Severity.ERROR, "damaged"),
        MountProblem(StorageError("b: gone", errno=errno.ENOENT), Severity.NOTE, "unreadable"),
    ]
    told = status_json(a_status(problems=problems))["problems"]
    assert [each["message"] for each in told] == [str(FormatError("a: damaged")), "b: gone"]
    assert [each["errno"] for each in told] == ["EIO", "ENOENT"]
    assert [each["severity"] for each in told] == ["error", "note"]


def test_open_files_are_read_from_the_json_as_they_were() -> None:
    files = [OpenFile("full/a", 4096, 1024, 2048, 1001.5), OpenFile("raw/b", 0, 0, 0, 1002.0)]
    report = json.loads(json.dumps(status_json(a_status(open_files=files))))
    assert OpenFile.all_in(report) == files


@pytest.mark.parametrize(
    ("number", "name"),
    [(errno.EIO, "EIO"), (errno.EOPNOTSUPP, "EOPNOTSUPP"), (errno.ENOTSUP, "EOPNOTSUPP"), (99999, "99999")],
)
def test_an_errno_is_told_by_its_symbol(number: int, name: str) -> None:
    assert errno_name(number) == name
