"""Who uses a mount: the processes with a file of it open, as /proc tells; nothing is asked of the mount itself."""

import os
from collections.abc import Iterator
from contextlib import suppress

from vdifs.errors import printable
from vdifs.linux.mountinfo import Mount

__all__ = ["command_of", "processes", "state_of", "users_of"]

_SHOWN = 5


def users_of(mount: Mount) -> str:
    """Say who has files open on a mount, as far as we may know."""
    found = [f"{command_of(pid)} ({pid})" for pid in processes() if pid != os.getpid() and _uses(pid, mount)]
    if not found:
        return "leave it with cd first" if _uses(os.getpid(), mount) else "close the files that are open on it"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"in use by {', '.join(found[:_SHOWN])}{more}: end them, or have them close their files"


def processes() -> list[int]:
    """Return the ids of all processes that we may see."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _uses(pid: int, mount: Mount) -> bool:
    """Tell whether a process has a file of the mount open or stands in it. Asks nothing of the mount itself."""
    return any(_is_within(f"/proc/{pid}/{link}", mount.mountpoint) for link in ("cwd", "root")) or any(
        mount_id == mount.mount_id for mount_id in _open_on(pid)
    )


def _is_within(link: str, folder: str) -> bool:
    with suppress(OSError):  # gone, or another user's
        path = os.readlink(link)
        return path == folder or path.startswith(folder + "/")
    return False


def _open_on(pid: int) -> Iterator[int]:
    """Yield the ids of the mounts on which a process has files open."""
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fdinfo"):
            with suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
                yield from (int(line[7:]) for line in file if line.startswith(b"mnt_id:"))


def command_of(pid: int) -> str:
    """Return the name of a process, `?` for one that has gone."""
    with suppress(OSError), open(f"/proc/{pid}/comm", "rb") as file:
        return printable(file.read().rstrip(b"\n"))
    return "?"


def state_of(pid: int) -> str:
    """Return the letter that proc(5) has for the state of a process, `?` for one that has gone."""
    # As bytes: a handler of signals asks too, in the midst of anything, and no codec may have to be loaded then.
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()
    return "?"
