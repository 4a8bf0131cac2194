"""Compiling the data plane: for the build backend, which makes wheels and installs a clone, and for scripts/setup.

python scripts/build_dataplane.py     compiles it where it stands, if its sources are newer
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent.parent / "vdifs" / "dataplane"
_FLAGS = ("-std=c11", "-O2", "-g", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra")
_SAFER = ("-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now")


def target() -> Path:
    """Return the file that is made."""
    return _FOLDER / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"


def is_current() -> bool:
    """Return whether it was made after the last change of its sources."""
    sources = [*_FOLDER.glob("*.[ch]"), Path(__file__)]
    return target().exists() and target().stat().st_mtime > max(each.stat().st_mtime for each in sources)


def build() -> Path:
    """Compile it with $CC, else cc, and $CFLAGS; return the file. Ends the program with one line where that fails."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if not compiler or shutil.which(compiler[0]) is None:
        sys.exit(f"vdifs: no C compiler: '{' '.join(compiler)}' was not found: install gcc, or name another with CC=")
    include = sysconfig.get_path("include")
    if not os.path.exists(os.path.join(include, "Python.h")):
        sys.exit(f"vdifs: no Python.h in {include}: install python3-dev, the headers of this Python")
    made = target().with_suffix(f".{os.getpid()}")
    flags = [*_FLAGS, *_SAFER, *shlex.split(os.environ.get("CFLAGS", ""))]
    sources = [str(each) for each in sorted(_FOLDER.glob("*.c"))]
    done = subprocess.run([*compiler, *flags, f"-I{include}", *sources, "-o", str(made)], check=False)
    if done.returncode:
        sys.exit(f"vdifs: {' '.join(compiler)} could not compile vdifs/dataplane: see above")
    made.replace(target())  # at once: a mount may have the old one in memory
    return target()


with suppress(ImportError):  # only the build backend has it
    # The backend is installed for building only.
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # type: ignore[import-not-found]

    class DataplaneHook(BuildHookInterface):  # type: ignore[misc] # an unknown class to mypy, for the same reason
        """Compiles the data plane into a wheel, which then is for one version of Python and one kind of machine."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the backend's signature
            """See BuildHookInterface."""
            if self.target_name != "wheel":
                return
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"].append(f"/{build().relative_to(_FOLDER.parent.parent)}")


if __name__ == "__main__" and not is_current():
    build()
