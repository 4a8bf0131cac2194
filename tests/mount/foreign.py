"""Images of other formats, mounted: as which files each is shown, that these are its disk, and how it is refused."""

import json
from pathlib import Path

from tests.mount.mounting import SOON_S, Mounted, eventually
from tests.support import oracle

__all__ = ["Refused", "prove_delta", "prove_full_and_raw", "shown_as"]


def shown_as(path: str) -> str:
    """Return the name in `full/` and `delta/` of an image with that path in the source."""
    return path if path.endswith(".qcow2") else f"{path}.qcow2"


def prove_full_and_raw(shown: Mounted, path: str, disk: bytes, scratch: Path) -> None:
    """Prove that an image is that disk, in `raw/` and to QEMU in `full/`."""
    assert (shown / f"raw/{path}.raw").read_bytes() == disk
    full = shown / f"full/{shown_as(path)}"
    oracle.check(full)
    assert oracle.materialize(full, scratch / "disk.raw").read_bytes() == disk


def prove_delta(shown: Mounted, base: str, path: str, disk: bytes, scratch: Path) -> None:
    """Prove that the delta of an image against `base` names that as it is shown, and is that disk to QEMU."""
    delta = shown / f"delta/{base}/{shown_as(path)}"
    oracle.check(delta)
    info = oracle.info(delta)
    assert info["backing-filename"].rpartition("/")[2] == shown_as(Path(base).name)
    assert info["backing-filename-format"] == "qcow2"
    assert oracle.materialize(delta, scratch / "disk.raw").read_bytes() == disk


class Refused:
    """Whether a file of a mount cannot be read, with one of some errnos; with another the test fails."""

    def __init__(self, *errnos: int) -> None:
        self._errnos = errnos

    def __call__(self, path: Path) -> bool:
        """Tell it of one file."""
        try:
            path.read_bytes()
        except OSError as error:
            assert error.errno in self._errnos
            return True
        return False

    def prove(self, shown: Mounted, path: str, why: str, *, told_within: float = 0.0) -> None:
        """Prove that an image is refused in `raw/` and `full/`, and that the status names it and says `why`.

        told_within: seconds that the status may take from then on.
        """
        eventually(lambda: self(shown / f"raw/{path}.raw"), SOON_S)
        assert self(shown / f"full/{shown_as(path)}")
        if told_within:
            eventually(lambda: _is_told(shown, path, why), told_within)
        assert _is_told(shown, path, why), _problems(shown)


def _is_told(shown: Mounted, path: str, why: str) -> bool:
    return any(path in each and why in each for each in map(json.dumps, _problems(shown)))


def _problems(shown: Mounted) -> list[object]:
    found: list[object] = shown.status()["problems"]
    return found
