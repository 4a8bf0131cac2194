"""`vdifs doctor`: what it finds, and what its status says."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from vdifs.cli.commands.doctor import doctor
from vdifs.errors import VdifsError
from vdifs.mount.daemon import doctor as examination
from vdifs.mount.daemon.confinement import possible_confinement
from vdifs.mount.daemon.doctor import Finding, State, examine


def test_the_json_has_every_check_the_versions_and_the_confinement() -> None:
    shown = CliRunner().invoke(doctor, ["--output", "json"])
    report = json.loads(shown.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert {"FUSE", "fusermount3", "user_allow_other", "Landlock", "seccomp", "open files", "system log"} <= set(checks)
    assert shown.exit_code == any(check["state"] == "error" for check in report["checks"])
    assert report["confinement"]["landlock"] == possible_confinement().landlock
    assert report["versions"]["pyfuse3"]


def test_a_person_gets_a_line_for_each() -> None:
    lines = CliRunner().invoke(doctor).stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [finding.state for finding in examine()]
    assert lines[-1].startswith("versions: vdifs ")


def test_what_keeps_from_mounting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fuse() -> None:
        raise VdifsError("/dev/fuse: not there: load it")

    monkeypatch.setattr(examination, "check_machine", no_fuse)
    shown = CliRunner().invoke(doctor)
    assert shown.exit_code == 1
    assert "error: FUSE: /dev/fuse: not there: load it\n" in shown.stdout


def test_what_is_wrong_and_what_to_do_are_told_apart_and_shown_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "find_fusermount", lambda: None)
    (found,) = [each for each in examine() if each.name == "fusermount3"]
    assert (found.what, found.remedy) == ("not found: only root can mount", "install the package fuse3")
    assert f"warning: fusermount3: {found.what}: {found.remedy}\n" in CliRunner().invoke(doctor).stdout


def test_what_is_missing_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Iterator[Finding]:
        yield Finding("FUSE", State.OK, "fine")
        yield examination._confinement("Landlock", "ABI None", "this kernel has none")

    monkeypatch.setattr("vdifs.cli.commands.doctor.examine", missing)
    shown = CliRunner().invoke(doctor)
    assert shown.exit_code == 0
    assert "warning: Landlock: the daemon will run without: this kernel has none\n" in shown.stdout
