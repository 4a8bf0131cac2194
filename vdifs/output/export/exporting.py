"""An image to a file or to standard output, without a mount.

A new file is written under a temporary name beside its target and renamed when complete: a reader of the target sees
all of it. Runs of zeros become holes. A file that a machine has in use is not replaced, and a link is followed.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vdifs.errors import InUseError, StorageError, UsageError
from vdifs.linux.locks import LockTable, has_user
from vdifs.output.export.compressing.compression import Compression
from vdifs.output.export.transfer import Progress, to_file, to_stream
from vdifs.output.image import Image
from vdifs.storage.witness import Witness

__all__ = ["export"]


def export(
    image: Image,
    output: str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    compression: Compression | None = None,
) -> None:
    """Write `image` to the file `output`, or to standard output for "-".

    compression: have every cluster of a qcow2 packed; then `output` must be a regular file.
    Raises UsageError if `output` exists and `overwrite` is not set, or is a file of the chain; InUseError if another
    program has it in use, as far as can be told; StorageError if it cannot be written: then no file is left.
    """
    if output == "-" and compression is not None:
        raise _not_packed_there("standard output")
    if output == "-":
        if sys.__stdout__ is None:
            raise StorageError("it is closed", where="standard output", remedy="name a file, or a pipe that is read")
        to_stream(image, sys.__stdout__.fileno(), progress)
        return
    existing = _check_output(image, output, overwrite)
    if existing is not None and not stat.S_ISREG(existing.st_mode):
        if compression is not None:
            raise _not_packed_there(output)
        _export_in_place(image, output, progress)
        return
    with _renamed_when_complete(output, overwrite=overwrite) as fd:
        if compression is None:
            to_file(image, fd, progress)
        else:
            from vdifs.output.export.compressing.packed_file import to_packed_file  # loads what packs

            to_packed_file(image, fd, compression, progress)


def _export_in_place(image: Image, output: str, progress: Progress | None) -> None:
    """Write to a named pipe or a device, which a rename would replace by a file."""
    is_disk = stat.S_ISBLK(os.stat(output).st_mode)
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | (os.O_EXCL if is_disk else 0))
    except OSError as error:
        if is_disk and error.errno == errno.EBUSY:
            raise _in_use(output) from error
        raise StorageError.from_os(output, error, "name a file that can be written") from error
    try:
        if is_disk and has_user(fd):
            raise _in_use(output)
        to_stream(image, fd, progress)
    except OSError as error:
        raise _not_written(output, error, "it was not written whole") from error
    finally:
        os.close(fd)


def _check_output(image: Image, output: str, overwrite: bool) -> os.stat_result | None:
    """Return the stat of `output`, None if it does not exist; raise UsageError if it must not be written."""
    try:
        st = os.stat(output)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError.from_os(output, error, "name a file that can be written") from error
    for file in image.chain.files:
        if (st.st_dev, st.st_ino) == file.fingerprint[:2]:
            raise UsageError("it is a file of the chain that is read", where=output, remedy="choose another name")
    if stat.S_ISDIR(st.st_mode):
        raise UsageError("is a directory", where=output, remedy="name a file in it")
    if not overwrite and not stat.S_ISFIFO(st.st_mode) and not stat.S_ISCHR(st.st_mode):
        raise _exists(output)
    if stat.S_ISREG(st.st_mode):
        _check_unused(output)
    return st


def _check_unused(output: str) -> None:
    """Raise InUseError if a machine has the file in use: replaced, it would be lost when the machine ends."""
    try:
        used = _is_used(output)
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"{error.strerror}: its locks cannot be asked for"
        raise StorageError(what, where=output, remedy="choose another name", errno=error.errno) from error
    if used:
        raise _in_use(output)


def _is_used(output: str) -> bool:
    try:
        fd = os.open(output, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except PermissionError:  # of a file that this user may not read, the table of all locks tells
        table = LockTable.open()
        try:
            return os.stat(output).st_ino in table.written_inodes()
        finally:
            table.close()
    try:
        return has_user(fd) or Witness(fd, watching=False).is_open_for_writing()
    finally:
        os.close(fd)


def _in_use(output: str) -> InUseError:
    what, remedy = "a virtual machine or another program has it open", "wait for its end, or choose another name"
    return InUseError(what, where=output, remedy=remedy)


def _not_packed_there(output: str) -> UsageError:
    what = "packed clusters go into a regular file only: where they lie is known when all are packed"
    return UsageError(what, where=output, remedy="name a file, or leave out --compress")


def _exists(output: str) -> UsageError:
    return UsageError("exists already", where=output, remedy="choose another name, or give --force")


def _not_written(output: str, error: OSError, otherwise: str) -> StorageError:
    """Return the error for a file that could not be written. otherwise: what is said where no remedy is known."""
    what, remedy = f"{error.strerror or error}", _REMEDIES.get(error.errno or 0)
    if remedy is None:
        what, remedy = f"{what}: {otherwise}", "check the disk or server below it"
    return StorageError(what, where=output, remedy=remedy, errno=error.errno)


@contextmanager
def _renamed_when_complete(output: str, *, overwrite: bool) -> Iterator[int]:
    target = os.path.realpath(output)  # a rename to a link would replace it: cp and qemu-img write where it leads
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:200]}.{os.urandom(8).hex()}.part")
    try:
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError.from_os(output, error, "name a file in a folder that can be written") from error
        try:
            yield fd
            os.fchmod(fd, 0o666 & ~_umask())
        finally:
            os.close(fd)
        _rename(temporary, target, output, overwrite=overwrite)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise _not_written(output, error, "it was not written") from error
        raise


def _rename(temporary: str, target: str, output: str, *, overwrite: bool) -> None:
    """Give the file its name; without `overwrite`, one that another program has made meanwhile stays."""
    if not overwrite:
        try:
            os.link(temporary, target)
        except FileExistsError as error:
            raise _exists(output) from error
        except OSError:
            pass  # no hard links here: then a moment remains in which a file that appears is replaced
        else:
            os.unlink(temporary)
            return
    _check_unused(target)
    os.rename(temporary, target)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it; mkstemp's files are 0600 whatever it is."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o022)


_REMEDIES = {
    errno.ENOSPC: "make room, or export to another file system",
    errno.EDQUOT: "make room, or export to another file system",
    errno.EFBIG: "the file system does not hold files that large",
}
