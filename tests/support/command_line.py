"""The command line, run in this process: fast enough for thousands of exports, maps and measures."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from vdifs.cli.main import main


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def run_vdifs(*words: str | Path) -> Ended:
    """Run `vdifs` with these words."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(word) for word in words])
    return Ended(status, out.getvalue(), err.getvalue())


def said(*words: str | Path) -> str:
    """Return what a command says that must succeed, and without complaint."""
    ended = run_vdifs(*words)
    assert (ended.status, ended.err) == (0, ""), f"vdifs {' '.join(map(str, words))}: {ended}"
    return ended.out


def answer(*words: str | Path) -> Any:
    """Return the JSON answer of a command."""
    return json.loads(said(*words, "--output", "json"))


def export(image: str | Path, output: Path, *words: str | Path) -> Path:
    """Export to `output`, whose folder is made, and return it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    assert said("export", image, output, "--progress", "none", *words) == ""
    return output
