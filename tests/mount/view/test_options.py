"""The options of a mount."""

import os
from dataclasses import replace

import pytest

from vdifs.errors import UsageError
from vdifs.mount.view.options import MountOptions

GOOD = MountOptions(source="src", mountpoint="mnt")


def test_paths_become_absolute() -> None:
    options = replace(GOOD, log_file="log", trusted=("t",)).checked()
    assert options.source == os.path.join(os.getcwd(), "src")
    assert options.log_file == os.path.join(os.getcwd(), "log")
    assert options.trusted == (os.path.join(os.getcwd(), "t"),)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cluster_size": 1000}, "cluster size 1000"),
        ({"cluster_size": 4 << 20}, "power of two"),
        ({"deadline": 0}, "deadline 0"),
        ({"deadline": float("nan")}, "deadline nan"),
        ({"threads": 0}, "threads 0"),
        ({"readahead": -1}, "readahead -1"),
        ({"umask": 0o1000}, "umask 1000"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(GOOD, **wrong).checked()  # type: ignore[arg-type]


def test_only_choices_about_permissions_override_them() -> None:
    assert not GOOD.overrides_permissions
    assert replace(GOOD, umask=0).overrides_permissions
    assert replace(GOOD, uid=0).overrides_permissions
