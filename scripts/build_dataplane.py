"""Compiling the data plane: for the build backend, which makes wheels and installs a clone, and for scripts/setup.

python scripts/build_dataplane.py                        compiles it where it stands, if its sources are newer
python scripts/build_dataplane.py --sanitizer address    with AddressSanitizer and UBSan (or: thread); says on
                                                         standard output what programs that load it have to be run with
python scripts/build_dataplane.py --sanitizer none       as ever, whatever is there
"""

import argparse
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
_SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-U_FORTIFY_SOURCE"),
    "thread": ("-fsanitize=thread", "-U_FORTIFY_SOURCE"),
    "none": (),
}
_RUN_WITH = {
    "address": ("libasan.so", "ASAN_OPTIONS=detect_leaks=0"),  # Python itself never frees all
    "thread": ("libtsan.so", "TSAN_OPTIONS=report_signal_unsafe=0"),
}


def target() -> Path:
    """Return the file that is made."""
    return _FOLDER / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"


def is_current() -> bool:
    """Return whether it was made after the last change of its sources."""
    sources = [*_FOLDER.glob("*.[ch]"), Path(__file__)]
    return target().exists() and target().stat().st_mtime > max(each.stat().st_mtime for each in sources)


def build(sanitizer: str = "none") -> Path:
    """Compile it with $CC, else cc, and $CFLAGS; return the file. Ends the program with one line where that fails."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if not compiler or shutil.which(compiler[0]) is None:
        sys.exit(f"vdifs: no C compiler: '{' '.join(compiler)}' was not found: install gcc, or name another with CC=")
    include = sysconfig.get_path("include")
    if not os.path.exists(os.path.join(include, "Python.h")):
        sys.exit(f"vdifs: no Python.h in {include}: install python3-dev, the headers of this Python")
    made = target().with_suffix(f".{os.getpid()}")
    flags = [*_FLAGS, *_SAFER, *_SANITIZERS[sanitizer], *shlex.split(os.environ.get("CFLAGS", ""))]
    sources = [str(each) for each in sorted(_FOLDER.glob("*.c"))]
    done = subprocess.run([*compiler, *flags, f"-I{include}", *sources, "-o", str(made)], check=False)
    if done.returncode:
        sys.exit(f"vdifs: {' '.join(compiler)} could not compile vdifs/dataplane: see above")
    made.replace(target())  # at once: a mount may have the old one in memory
    return target()


def run_with(sanitizer: str) -> str:
    """Return the variables that a program needs which loads what was compiled with a sanitizer."""
    library, options = _RUN_WITH[sanitizer]
    compiler = shlex.split(os.environ.get("CC") or "cc")
    found = subprocess.run([*compiler, f"-print-file-name={library}"], check=True, capture_output=True, text=True)
    return f"LD_PRELOAD={found.stdout.strip()} {options}"


def main() -> None:
    """Compile it, see above."""
    parser = argparse.ArgumentParser(description="Compile the data plane where it stands, if its sources are newer.")
    parser.add_argument("--sanitizer", choices=sorted(_SANITIZERS), help="compile it in any case, with this one")
    sanitizer = parser.parse_args().sanitizer
    if sanitizer is None and is_current():
        return
    build(sanitizer or "none")
    if sanitizer in _RUN_WITH:
        print(run_with(sanitizer))  # noqa: T201 - for $(...)


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


if __name__ == "__main__":
    main()
