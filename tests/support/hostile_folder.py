"""A folder made to attack the program that searches it: names that lead out, files that block, chains that never end.

Each of its images is here with what vdifs must answer; beside the bad ones lie good ones, which must be served.
"""

import errno
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import hostile_parents
from tests.support.builder import write_blank

SECRET = b"the secret that no image may get at\n"
ALICE = 4711

OUTSIDE = {
    "passwd": "/etc/passwd",
    "shadow": "/etc/shadow",
    "up": "../../x",
    "up-to-passwd": "../../../../../../../../etc/passwd",
    "secret": "../outside/secret",
    "zero": "/dev/zero",
    "null": "/dev/null",
    "stdin": "/dev/stdin",
    "descriptor": "/proc/self/fd/0",
    "root": "/proc/self/root/etc/passwd",
    "memory": "/proc/self/mem",
    "detour": "way-out/../outside/secret",
    "json": "json:{}",
    "json-file": 'json:{"driver": "file", "filename": "/etc/passwd"}',
    "nbd": "nbd:127.0.0.1:10809",
    "nbd-unix": "nbd+unix:///?socket=/tmp/socket",
    "http": "http://127.0.0.1:1/x",
    "fat": "fat:/etc",
    "file": "file:/etc/passwd",
    "newline": "base.qcow2\n",
    "escape": "\x1b[2Jbase.qcow2",
}
"""Names that must not be followed, nor looked at: EACCES."""

INSIDE = {
    "on-fifo": ("fifo", errno.EIO),
    "on-socket": ("socket", errno.EIO),
    "on-folder": ("folder.qcow2", errno.EIO),
    "on-link": ("link-to-secret", errno.ELOOP),
    "on-link-inside": ("link-to-base", errno.ELOOP),
    "on-loop-of-links": ("link-loop-1", errno.ELOOP),
    "beneath-link": ("way-out/secret", errno.ELOOP),
    "on-nothing": ("nothing", errno.EIO),
    "on-too-long-a-name": ("n" * 300, errno.EIO),
    "on-a-file-as-a-folder": ("base.qcow2/x", errno.EIO),
}
"""Names beneath the source that no image can be read from, and why."""

GOOD_NAMES = [
    b"base.qcow2",
    b"n" * 249 + b".qcow2",
    b"new\nline.qcow2",
    b"\x1b[2Jescape.qcow2",
    b"inv\xe4lid\xff.qcow2",
    b"colon:name.qcow2",
    b"deep/" * 40 + b"deep.qcow2",
    b"no suffix",
]


@dataclass
class Hostile:
    """The folder: good images by PATH with the first byte of their disk, bad ones with their errno."""

    root: Path
    good: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)


def make(top: Path) -> Hostile:
    """Make the folder `top`/source, and secrets beside it."""
    made = Hostile(top / "source")
    made.root.mkdir()
    (top / "outside").mkdir()
    (top / "outside" / "secret").write_bytes(SECRET)
    (top / "outside" / "secret").chmod(0o600)
    _good_images(made)
    _special_files(made.root, top / "outside")
    for name, backing in OUTSIDE.items():
        for stated in ("raw", "qcow2", None):
            _bad(made, f"{name}-as-{stated}.qcow2", errno.EACCES, backing, stated)
        _bad(made, f"{name}-data.qcow2", errno.EACCES, data_file=backing)
    for name, (backing, code) in INSIDE.items():
        _bad(made, f"{name}.qcow2", code, backing, "raw")
        _bad(made, f"{name}-as-qcow2.qcow2", code, backing, "qcow2")
        _bad(made, f"{name}-data.qcow2", code, data_file=backing)
    _of_other_formats(made)
    _loops(made)
    _thefts(made, top / "outside" / "secret")
    return made


def _good_images(made: Hostile) -> None:
    for name in GOOD_NAMES:
        path = os.fsencode(made.root) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_blank(Path(os.fsdecode(path)))
        made.good[os.fsdecode(name)] = 0
    for number, name in enumerate(GOOD_NAMES):
        write_blank(made.root / f"top{number}.qcow2", f"./{os.fsdecode(name)}", "qcow2")
        refused = b"\n" in name or b"\x1b" in name  # a name that vdifs shows is not always one that it follows
        (made.bad if refused else made.good)[f"top{number}.qcow2"] = errno.EACCES if refused else 0
    (made.root / "disk.raw").write_bytes(b"\x07" * 4096)
    write_blank(made.root / "on-raw.qcow2", "disk.raw", "raw")
    made.good |= {"disk.raw": 7, "on-raw.qcow2": 7}


def _special_files(root: Path, outside: Path) -> None:
    for suffix in ("", ".qcow2", ".raw"):
        os.mkfifo(root / f"fifo{suffix}")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(root / f"socket{suffix}"))
        if os.geteuid() == 0:
            os.mknod(root / f"zero{suffix}", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            os.mknod(root / f"loop{suffix}", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    (root / "folder.qcow2").mkdir()
    for link, target in {
        "link-loop-1": "link-loop-2",
        "link-loop-2": "link-loop-1",
        "self.qcow2": "self.qcow2",
        "up": "..",
        "here": ".",
        "everything": "/",
        "way-out": os.fspath(outside),
        "link-to-secret": os.fspath(outside / "secret"),
        "link-to-secret.raw": os.fspath(outside / "secret"),
        "link-to-base": "base.qcow2",
        "link.qcow2": "base.qcow2",
    }.items():
        (root / link).symlink_to(target)


def _of_other_formats(made: Hostile) -> None:
    for suffix, write in hostile_parents.FORMATS.items():
        for name, said in (OUTSIDE | hostile_parents.NAMES).items():
            write(made.root / f"parent-{name}.{suffix}", said)
            made.bad[f"parent-{name}.{suffix}"] = errno.EIO
    for name, said in (OUTSIDE | hostile_parents.NAMES).items():
        if name in hostile_parents.IMAGES:
            continue  # which may be an extent too, and is only looked into when it is opened
        for kind in ("FLAT", "VMFS", "SPARSE", "VMFSSPARSE", "SESPARSE"):
            hostile_parents.vmdk_of_extent(made.root / f"{kind.lower()}-extent-of-{name}.vmdk", said, kind)
            made.bad[f"{kind.lower()}-extent-of-{name}.vmdk"] = hostile_parents.errno_of_extent(said)


def _loops(made: Hostile) -> None:
    for length in (1, 2, 3):
        for number in range(length):
            name = f"loop-{length}-{number}.qcow2"
            _bad(made, name, errno.ELOOP, f"loop-{length}-{(number + 1) % length}.qcow2", "qcow2")
        _bad(made, f"on-loop-{length}.qcow2", errno.ELOOP, f"loop-{length}-0.qcow2", "qcow2")


def _thefts(made: Hostile, secret: Path) -> None:
    """Hard links to another's private file: an image of Alice's may not be on one, and one alone stays private."""
    if os.geteuid() != 0:
        return
    os.link(secret, made.root / "hard-link")
    _bad(made, "thief.qcow2", errno.EACCES, "hard-link", "raw")
    _bad(made, "data-thief.qcow2", errno.EACCES, data_file="hard-link")
    for name in ("thief.qcow2", "data-thief.qcow2"):
        os.chown(made.root / name, ALICE, ALICE)


def _bad(
    made: Hostile,
    name: str,
    code: int,
    backing: str | None = None,
    stated: str | None = None,
    data_file: str | None = None,
) -> None:
    write_blank(made.root / name, backing, stated, data_file=data_file)
    made.bad[name] = code
