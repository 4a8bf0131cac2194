"""Why a daemon runs on though its mount was taken away here, and what to do, as /proc tells."""

import os
from contextlib import suppress
from typing import NamedTuple

from vdifs.linux.mountinfo import Mount, mounts
from vdifs.linux.processes import command_of, processes, state_of
from vdifs.mount.daemon.remedies import typed

__all__ = ["StillRunning", "copy_elsewhere", "lock_holder", "why_still_running"]


class StillRunning(NamedTuple):
    """Why a daemon runs on, and what to do."""

    why: str
    remedy: str


def copy_elsewhere(mount: Mount) -> StillRunning | None:
    """Say where a copy of the mount lives on, which another mount namespace made when it was made; None for nowhere.

    The daemon serves that one too.
    """
    for pid in processes():
        with suppress(OSError):  # gone, or out of our sight
            copy = next((each for each in mounts(f"/proc/{pid}/mountinfo") if _is_copy(each, mount)), None)
            if copy is not None:
                place = typed(copy.mountpoint)
                return StillRunning(
                    f"a copy of the mount lives on in the mount namespace of {command_of(pid)} ({pid}), and its daemon "
                    "with it",
                    f"end that process, or unmount it there with 'nsenter -t {pid} -m umount {place}'",
                )
    return None


def why_still_running(folder: int) -> StillRunning:
    """Say why the daemon that holds a lock on `folder`, a descriptor, still runs, as far as can be told."""
    pid = lock_holder(folder)
    if pid is None:
        return StillRunning("its daemon still runs", "look into its log")
    end = f"end it with 'kill -9 {pid}'"
    if state_of(pid) in ("T", "t"):
        return StillRunning(f"its daemon ({pid}) is stopped", f"continue it with 'kill -CONT {pid}', or {end}")
    return StillRunning(f"its daemon ({pid}) still runs", f"look into its log, or {end}")


def _is_copy(other: Mount, mount: Mount) -> bool:
    """Tell whether it is one. The device alone does not tell: its number is free once a mount has no copy."""
    return (other.device, other.type, other.source) == (mount.device, mount.type, mount.source)


def lock_holder(folder: int) -> int | None:
    """Return which process holds a lock on a file, by /proc/locks: `1: FLOCK ADVISORY READ PID MAJ:MIN:INODE 0 EOF`."""
    status = os.fstat(folder)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError), open("/proc/locks", encoding="ascii") as lines:
        for line in lines:
            _, kind, _, _, pid, file, *_ = [*line.split(), *[""] * 7]
            if kind == "FLOCK" and file == wanted and pid.isdigit():
                return int(pid)
    return None
