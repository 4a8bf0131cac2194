"""An automounter, as automount(8) and systemd are: `automounter direct|indirect SOURCE FOLDER`.

Mounts autofs at FOLDER, says "ready", and has each visitor wait until `mount.fuse.vdifs` has mounted SOURCE there, or
at the name in it that was visited. Runs that in its own process group, by which the kernel knows it. Ends with its
input.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys

_READY, _FAIL, _CATATONIC = 0x9360, 0x9361, 0x9362
_PACKET = struct.Struct("iiIIQIIIII256s4x")
_MISSING = (3, 5)
_PATIENCE_S = 30
HELPER = [sys.executable, "-c", "import sys; from vdifs.cli.commands.mount_helper import main; sys.exit(main())"]


def main() -> None:
    kind, source, folder = sys.argv[1:]
    os.setpgid(0, 0)
    reading, writing = os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,{kind}"
    if libc.mount(b"auto", os.fsencode(folder), b"autofs", 0, options.encode()):
        sys.exit(f"autofs: {os.strerror(ctypes.get_errno())}")
    os.close(writing)
    gate = os.open(folder, os.O_RDONLY)
    print("ready", flush=True)  # noqa: T201 - what the test waits for
    while reading in select.select([reading, sys.stdin], [], [])[0]:
        _, what, token, *_, length, name = _PACKET.unpack(os.read(reading, _PACKET.size))
        place = os.path.join(folder, os.fsdecode(name[:length])) if kind == "indirect" else folder
        mounted = what in _MISSING and mount(source, place)
        fcntl.ioctl(gate, _READY if mounted else _FAIL, token)
    fcntl.ioctl(gate, _CATATONIC, 0)


def mount(source: str, place: str) -> bool:
    os.makedirs(place, exist_ok=True)
    helper = subprocess.Popen([*HELPER, source, place, "-o", "rw"], stdin=subprocess.DEVNULL)
    try:
        return helper.wait(_PATIENCE_S) == 0
    except subprocess.TimeoutExpired:
        helper.kill()
        return False


if __name__ == "__main__":
    main()
