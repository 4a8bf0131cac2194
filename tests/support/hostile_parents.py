"""Differencing images of other formats whose parents' names lead out of the source, or to what must not be opened.

FORMATS[suffix](path, name)     an image at `path` that names its parent so, in each way that the format has
"""

import errno
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from tests.support import vmdk
from tests.support.vhd import Vhd
from tests.support.vhdx import Draft

NAMES = {
    "dots": "..\\..\\x",
    "up-and-down": "..\\outside\\secret",
    "share": "\\\\server\\share\\x",
    "drive": "C:\\windows\\x",
    "verbatim": "\\\\?\\C:\\windows\\x",
    "globally": "\\\\?\\GLOBALROOT\\Device\\x",
    "device-in-it": "zero",
    "fifo-in-it": ".\\fifo",
    "socket-in-it": "C:\\vm\\socket",
    "link-in-it": "link-to-secret",
    "beneath-link": "way-out\\secret",
    "folder-in-it": "folder.qcow2",
    "another-image": "base.qcow2",
    "raw-disk": "C:\\vm\\disk.raw",
    "itself": ".\\parent-itself.vhd",
    "long": "x" * 255,
    "lone": "..",
    "newline": "base\n.vhd",
}
"""As Windows writes them; those of qcow2 images are tried as well."""
IMAGES = ("another-image", "raw-disk")
"""Which of them are regular files of the source."""
DISK = 1 << 20


def _vhd(path: Path, name: str) -> None:
    spelled = [(code, name.encode("utf-16-le", "surrogatepass")) for code in (b"W2ru", b"W2ku")]
    image = Vhd(DISK, 512 << 10, UUID(int=7), UUID(int=8), name[:255], [*spelled, (b"MacX", f"file://{name}".encode())])
    image.put(4096, b"\1" * 512)
    image.write(path)


def _vhdx(path: Path, name: str) -> None:
    said = dict.fromkeys(("relative_path", "volume_path", "absolute_win32_path"), name)
    Draft(2 * DISK, DISK, parent={"parent_linkage": f"{{{UUID(int=7)}}}"} | said).save(path)


def _vmdk_parent(path: Path, name: str) -> None:
    hint = name.encode(errors="surrogateescape")
    path.write_bytes(vmdk.descriptor("RW 2048 ZERO", parent_cid="7", hint=hint).replace(b"custom", b"monolithicSparse"))


FORMATS: dict[str, Callable[[Path, str], None]] = {"vhd": _vhd, "vhdx": _vhdx, "vmdk": _vmdk_parent}


def vmdk_of_extent(path: Path, name: str, kind: str) -> None:
    """Write a descriptor of one extent, in a file of that name."""
    text = vmdk.descriptor(f'RW 2048 {kind} "{name}"' + (" 0" if kind == "FLAT" else ""))
    path.write_bytes(text.replace(b"custom", b"vmfs"))


def errno_of_extent(name: str) -> int:
    """Return the error of an image whose extent is called so."""
    if name.startswith(("/dev/", "\\\\?\\")):
        return errno.EOPNOTSUPP  # what VMware calls a raw device mapping
    if name == NAMES["link-in-it"]:
        return errno.ELOOP
    unlike_beneath = name.startswith(("/", "..", "\x1b", "way-out/..")) or ":" in name
    inside = ('"' in name or "\\" in name) and not name.startswith("C:")  # neither a separator nor a name
    return errno.EACCES if unlike_beneath and not inside else errno.EIO
