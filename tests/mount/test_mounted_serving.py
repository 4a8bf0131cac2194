"""A mount can be served further: by file handle, through NFS and through NBD."""

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount.file_handles import handle_of, opened
from tests.mount.mounting import SOON_S, Mounts, eventually
from tests.support import oracle
from tests.support.builder import write_stamped

NAMES = ("full/tuesday.qcow2", "delta/base.qcow2/monday.qcow2", "raw/base.qcow2.raw", "delta/monday.qcow2", "full", "")


def drop_caches() -> None:
    """Have the kernel forget the names and inodes that are not in use."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


def what_is_in(descriptor: int) -> object:
    """Return the bytes of a file, the names in a folder."""
    try:
        return os.pread(descriptor, 64 << 20, 0)
    except IsADirectoryError:
        return sorted(os.listdir(descriptor))


@pytest.mark.usefixtures("root_only")
def test_handles_outlive_dropped_caches_and_a_remount(mounts: Mounts, source: Path) -> None:
    first = mounts(source)
    handles = {name: handle_of(first / name) for name in NAMES}
    before = {}
    for name, handle in handles.items():
        with opened(first.path, handle) as descriptor:
            before[name] = what_is_in(descriptor)
    drop_caches()
    for name, handle in handles.items():
        with opened(first.path, handle) as descriptor:
            assert what_is_in(descriptor) == before[name], name
    assert first.umount().status == 0
    again = mounts(source, first.path)
    for name, handle in handles.items():
        with opened(again.path, handle) as descriptor:
            assert what_is_in(descriptor) == before[name], name


@pytest.mark.usefixtures("root_only")
def test_the_handle_of_a_state_that_has_passed_is_stale(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    old = handle_of(mounted / "full/tuesday.qcow2")
    write_stamped(source / "tuesday.qcow2", {0: 512}, 9)
    drop_caches()
    eventually(lambda: handle_of(mounted / "full/tuesday.qcow2").f_handle[:8] != old.f_handle[:8], within=SOON_S)
    with pytest.raises(OSError) as caught, opened(mounted.path, old):
        pass
    assert caught.value.errno == errno.ESTALE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def nfs_server(folder: Path, scratch: Path) -> Iterator[str]:
    """Serve `folder` by nfs-ganesha on the loopback interface, NFS version 4; yield what URLs of libnfs end with."""
    port, log = free_port(), scratch / "ganesha.log"
    settings = scratch / "ganesha.conf"
    settings.write_text(f"""
NFS_CORE_PARAM {{
  Protocols = 4; NFS_Port = {port}; Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = 127.0.0.1;
}}
NFSv4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = {scratch}; Minor_Versions = 0; }}
EXPORT {{
  Export_Id = 1; Path = {folder}; Pseudo = /vdifs; Access_Type = RO; Squash = No_Root_Squash; SecType = sys;
  Protocols = 4; FSAL {{ Name = VFS; }}
}}
""")
    command: list[str | Path] = [
        require_tool("ganesha.nfsd"),
        "-F",
        "-f",
        settings,
        "-L",
        log,
        "-p",
        scratch / "ganesha.pid",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            suffix = f"?version=4&nfsport={port}"
            listing = [require_tool("nfs-ls"), f"nfs://127.0.0.1/vdifs/{suffix}"]
            eventually(lambda: subprocess.run(listing, capture_output=True).returncode == 0, within=60)
            yield suffix
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.mark.usefixtures("root_only")
def test_nfs_ganesha_serves_a_mount(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with nfs_server(mounted.path, mounts.scratch) as suffix:
        for name in ("full/tuesday.qcow2", "delta/base.qcow2/monday.qcow2", "raw/tuesday.qcow2.raw"):
            url = f"nfs://127.0.0.1/vdifs/{name}{suffix}"
            shown = subprocess.run([require_tool("nfs-cat"), url], capture_output=True, check=True)
            assert shown.stdout == (mounted / name).read_bytes(), name
        listing = ["nfs-ls", f"nfs://127.0.0.1/vdifs/full{suffix}"]
        listed = subprocess.run(listing, capture_output=True, check=True, text=True).stdout
        assert {line.split()[-1] for line in listed.splitlines()} == {"base.qcow2", "monday.qcow2", "tuesday.qcow2"}


def test_nbdkit_serves_a_raw_view(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    copy = mounts.scratch / "copy.raw"
    command: list[str | Path] = [require_tool("nbdkit"), "-r", "-U", "-", "file", mounted / "raw/tuesday.qcow2.raw"]
    subprocess.run([*command, "--run", f'{require_tool("nbdcopy")} "$uri" {copy}'], check=True, capture_output=True)
    oracle.compare(copy, source / "tuesday.qcow2", left_format="raw")
