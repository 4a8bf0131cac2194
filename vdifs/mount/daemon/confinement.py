"""Least privilege: what a mounted daemon gives up, for good, before it answers the first request.

    no_new_privs    no program that it started could have more rights
    Landlock        opens only what is beneath the sources, the interpreter and its libraries, and nothing to write
    seccomp         no sockets, no programs, no processes, no mounts; nothing that makes, changes or removes a file

Each as far as this kernel has it: one that does not is no reason not to mount. The supervisor, which takes the mount
away, and its child, which opens a log anew that was moved away, keep their rights; the daemon has lost those, and may
only append to the log that is open.
"""

import codecs
import importlib
import logging
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable

import vdifs
from vdifs import formats
from vdifs.linux.capabilities import forbid_new_privileges
from vdifs.linux.landlock import landlock_abi, restrict_files, restricts_all_threads, why_no_landlock
from vdifs.linux.mountinfo import MOUNTINFO
from vdifs.linux.seccomp import restrict_system_calls, why_no_filter
from vdifs.mount.daemon.allowed_system_calls import allowed_system_calls
from vdifs.mount.view.confinement import Confinement

__all__ = ["confine", "possible_confinement", "preload"]

_LOOKS = 100
_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/ld.so.cache",
)

_MODULES = ("concurrent.futures.thread", "linecache", "tokenize", "json.encoder")
_CODECS = ("ascii", "utf-8", "utf-16-le", "latin-1", "idna")

log = logging.getLogger("vdifs.mount")


def possible_confinement() -> Confinement:
    """Return what would be in force here."""
    return Confinement(True, landlock_abi(), why_no_filter() is None)


def confine(sources: Iterable[str]) -> Confinement:
    """Give up what serving `sources` does not need, and return what is in force now.

    It counts for this thread and those it starts: call it while there is no other.
    """
    preload()
    # The table of mounts is read with every search of the sources. The rule is about this very inode, and procfs keeps
    # that only as long as a process has it open.
    os.open(MOUNTINFO, os.O_PATH | os.O_CLOEXEC)
    readable = [*sources, *_interpreter(), *_LIBRARIES, MOUNTINFO]
    abi = landlock_abi()
    if abi is not None and not restricts_all_threads(abi) and not _is_alone():
        log.warning("Landlock: not in force in threads that run already")
    no_new_privs = _try("no_new_privs", None, forbid_new_privileges)
    files = no_new_privs and _try("Landlock", why_no_landlock(), lambda: restrict_files(readable))
    in_force = abi if files else None
    calls = no_new_privs and _try("seccomp", why_no_filter(), lambda: _restrict_calls(in_force))
    return Confinement(no_new_privs, in_force, calls)


def preload() -> None:
    """Import what is otherwise imported at its first use, in vdifs and in the libraries below.

    A confined daemon opens nothing but the sources.
    """
    for module in (*_MODULES, *(each.name for each in pkgutil.walk_packages(formats.__path__, "vdifs.formats."))):
        importlib.import_module(module)
    for codec in _CODECS:
        codecs.lookup(codec)
    try:
        raise ExceptionGroup("nothing is wrong", [ValueError()])
    except ExceptionGroup:
        traceback.format_exc()


def _interpreter() -> list[str]:
    """Return where Python finds modules: late imports, and the lines that a traceback shows."""
    prefixes = [os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)]
    package = os.path.dirname(os.path.abspath(vdifs.__file__))
    paths = [path for path in sys.path if os.path.isabs(path) and os.path.realpath(path) != "/"]
    return [*prefixes, package, *paths]


def _restrict_calls(landlock: int | None) -> None:
    restrict_system_calls(allowed_system_calls(os.getpid(), landlock))


def _is_alone() -> bool:
    """Tell whether this thread is the only one; one that was just joined may take a moment to end."""
    for _ in range(_LOOKS):
        if len(os.listdir("/proc/self/task")) == 1:
            return True
        time.sleep(0.01)
    return False


def _try(name: str, why_not: str | None, restrict: Callable[[], None]) -> bool:
    """Put a restriction in force; return whether it is. why_not: why this machine has no such thing."""
    if why_not is not None:
        log.info("%s: not in force: %s", name, why_not)
        return False
    try:
        restrict()
    except OSError as error:
        log.warning("%s: not in force: %s", name, error.strerror or error)
        return False
    return True
