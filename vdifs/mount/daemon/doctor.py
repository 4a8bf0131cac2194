"""Is this machine able to mount, and what would be in force? Looks, and changes nothing."""

import os
import platform
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import vdifs
from vdifs.errors import VdifsError, message_of, printable
from vdifs.linux.landlock import landlock_abi, why_no_landlock
from vdifs.linux.mountinfo import mounts
from vdifs.linux.seccomp import why_no_filter
from vdifs.mount.daemon.detach import FUSERMOUNT, MTAB, MTAB_REMEDY, find_fusermount
from vdifs.mount.daemon.mountpoint import DEVICE, check_machine
from vdifs.mount.view.log_destination import SYSTEM_LOG

__all__ = ["Finding", "State", "examine", "versions"]

FUSE_CONF = "/etc/fuse.conf"
_PACKAGES = ("pyfuse3", "trio", "numpy", "isal", "zstandard", "click", "rich")
_REMOTE = re.compile(r"(nfs|cifs|smb|ceph|glusterfs|9p|fuse\.sshfs|fuse\.glusterfs)")
_FEW_FILES = 1024


class State(StrEnum):
    """How good a finding is. ERROR: nothing can be mounted."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One thing that was looked at. what: was found. remedy: what to do, if anything is to be done."""

    name: str
    state: State
    what: str
    remedy: str | None = None

    @property
    def message(self) -> str:
        """The line that tells of it."""
        return message_of(self.what, remedy=self.remedy)


def examine() -> Iterator[Finding]:
    """Yield what was found, most important first."""
    yield _fuse()
    yield _fusermount()
    if not os.path.exists(MTAB):
        yield Finding("mtab", State.WARNING, f"no {MTAB}: ordinary users can mount, not unmount", MTAB_REMEDY)
    yield _allow_other()
    yield _confinement("Landlock", f"ABI {landlock_abi()}", why_no_landlock())
    yield _confinement("seccomp", "can be filtered", why_no_filter())
    yield _open_files()
    yield _system_log()
    yield from _remote_sources()


def versions() -> dict[str, str | None]:
    """Return the versions of what takes part, None for what is not installed."""
    found: dict[str, str | None] = {
        "vdifs": vdifs.__version__,
        "python": platform.python_version(),
        "linux": platform.release(),
        FUSERMOUNT: _fusermount_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _fuse() -> Finding:
    try:
        check_machine()
    except VdifsError as error:
        return Finding("FUSE", State.ERROR, error.finding, error.remedy)
    return Finding("FUSE", State.OK, f"{DEVICE} can be used")


def _fusermount() -> Finding:
    program = find_fusermount()
    if program is None:
        return Finding(FUSERMOUNT, State.WARNING, "not found: only root can mount", "install the package fuse3")
    if not os.stat(program).st_mode & 0o4000 and os.geteuid() != 0:
        return Finding(FUSERMOUNT, State.WARNING, f"{program} is not setuid root", "reinstall the package fuse3")
    return Finding(FUSERMOUNT, State.OK, program)


def _fusermount_version() -> str | None:
    program = find_fusermount()
    if program is None:
        return None
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
        if (match := re.search(r"\d+(\.\d+)+", done.stdout)) is not None:
            return match[0]
    return None


def _allow_other() -> Finding:
    name = "user_allow_other"
    if os.geteuid() == 0:
        return Finding(name, State.OK, "not needed: root may use --allow-other")
    with suppress(OSError), open(FUSE_CONF, encoding="utf-8", errors="replace") as lines:
        if any(line.strip() == name for line in lines):
            return Finding(name, State.OK, f"set in {FUSE_CONF}")
    remedy = f"have root add '{name}' to {FUSE_CONF} if you need it"
    return Finding(name, State.WARNING, "not set: --allow-other is refused", remedy)


def _confinement(name: str, found: str, why_not: str | None) -> Finding:
    if why_not is not None:
        return Finding(name, State.WARNING, f"the daemon will run without: {why_not}")
    return Finding(name, State.OK, f"{found}: in force in the daemon once it has mounted")


def _open_files() -> Finding:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= _FEW_FILES:
        return Finding("open files", State.OK, "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit}")
    remedy = "have root raise it with 'ulimit -n 65536' or LimitNOFILE=65536"
    what = f"up to {limit}: an open image takes one for each file of its chain"
    return Finding("open files", State.WARNING, what, remedy)


def _system_log() -> Finding:
    if os.path.exists(SYSTEM_LOG):
        return Finding("system log", State.OK, f"{SYSTEM_LOG}: a daemon without --log-file logs there")
    return Finding(
        "system log", State.WARNING, f"no {SYSTEM_LOG}: a daemon in the background logs only with --log-file"
    )


def _remote_sources() -> Iterator[Finding]:
    places = [printable(mount.mountpoint) for mount in mounts() if _REMOTE.match(mount.type)]
    if places:
        what = f"{', '.join(places)}: what another host changes is seen only after a while"
        yield Finding("remote file systems", State.WARNING, what, "mount with actimeo=1")
