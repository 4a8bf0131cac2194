"""What a confined process can still do: `attempts SOURCE LOG SECRET [landlock] [seccomp]`.

Says when it is confined, waits for a line, and prints JSON: attempt -> answer. In a process of its own, as it never
gets its rights back. The last words switch that part off, as on a kernel that lacks it.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vdifs.linux import landlock
from vdifs.linux.beneath import _openat2
from vdifs.mount.daemon import confinement
from vdifs.mount.daemon.confinement import confine

_libc = ctypes.CDLL(None, use_errno=True)
_other, _end = socket.socketpair()
_owner = ctypes.c_int(os.getpid())
_inotify = _libc.inotify_init1(os.O_CLOEXEC)
_LOCK = struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 200, 1, 0)
_F_SETOWN_EX, _F_SETSIG = 15, 10
_FIOASYNC, _FIOSETOWN = 0x5452, 0x8901


def by_libc(name: str, *args: object) -> Callable[[], None]:
    def call() -> None:
        if getattr(_libc, name)(*args) < 0:
            raise OSError(ctypes.get_errno(), name)

    return call


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def in_thread(action: Callable[[], object]) -> Callable[[], object]:
    """Return `action` as a thread does it that is started now."""
    answers: list[OSError | None] = []
    go = threading.Event()

    def run() -> None:
        go.wait()
        try:
            action()
        except OSError as error:
            answers.append(error)
        else:
            answers.append(None)

    thread = threading.Thread(target=run)
    thread.start()

    def ask() -> None:
        go.set()
        thread.join()
        if answers[0] is not None:
            raise answers[0]

    return ask


def thread() -> None:
    new = threading.Thread(target=lambda: None)
    new.start()
    new.join()


def _folder(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def of_pipe(command: int, argument: int | bytes = 0) -> Callable[[], object]:
    """Return what calls fcntl(2) about a pipe of its own."""

    def call() -> None:
        reading, writing = os.pipe()
        try:
            fcntl.fcntl(reading, command, argument)
        finally:
            os.close(writing)
            os.close(reading)

    return call


def of_file(path: Path, command: int, argument: int | bytes) -> Callable[[], object]:
    """Return what calls fcntl(2) about a file that it opens for that."""

    def call() -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            fcntl.fcntl(file, command, argument)
        finally:
            os.close(file)

    return call


def ways_of_fcntl(image: Path) -> dict[str, Callable[[], object]]:
    """What fcntl(2) and its like can do, also to others: send signals by way of a file, take locks that they need."""
    return {
        "copy a descriptor": lambda: os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)),
        "look at a descriptor": of_pipe(fcntl.F_GETFD),
        "keep a pipe from blocking": of_pipe(fcntl.F_SETFL, os.O_NONBLOCK),
        "make a pipe larger": of_pipe(fcntl.F_SETPIPE_SZ, 1 << 16),
        "ask about a lock": of_file(image, fcntl.F_OFD_GETLK, _LOCK),
        "probe with a lease": of_file(image, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "be told of a lease by SIGURG": of_pipe(_F_SETSIG, signal.SIGURG),
        "watch a source": by_libc("inotify_add_watch", _inotify, os.fsencode(image), 2),
        "make another inotify": by_libc("inotify_init1", 0),
        "keep others from opening": of_file(image, fcntl.F_SETLEASE, fcntl.F_WRLCK),
        "lock a source": of_file(image, fcntl.F_OFD_SETLK, _LOCK),
        "lock a source in the old way": of_file(image, fcntl.F_SETLK, _LOCK),
        "have a pipe signal a process": of_pipe(fcntl.F_SETOWN, os.getpid()),
        "have a pipe signal a thread": of_pipe(_F_SETOWN_EX, struct.pack("ii", 0, os.getpid())),
        "have a pipe send SIGKILL": of_pipe(_F_SETSIG, signal.SIGKILL),
        "have a pipe send signals": of_pipe(fcntl.F_SETFL, os.O_ASYNC),
        "have a socket send signals": by_libc("ioctl", _end.fileno(), _FIOASYNC, ctypes.byref(ctypes.c_int(1))),
        "have a socket signal a process": by_libc("ioctl", _end.fileno(), _FIOSETOWN, ctypes.byref(_owner)),
        "be told of changes by a signal": of_file(image.parent, fcntl.F_NOTIFY, fcntl.DN_MODIFY),
        "queue a signal": by_libc("sigqueue", os.getppid(), 0, None),
        "make a timer": by_libc("timer_create", 0, None, ctypes.create_string_buffer(8)),
        "have its parent's end signalled": by_libc("prctl", 1, signal.SIGURG, 0, 0, 0),
    }


def ways_to_the_log(log: Path) -> dict[str, Callable[[], object]]:
    """What can be done to a log that is open to append to, and in its folder."""
    opened = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write_over() -> None:
        fcntl.fcntl(opened, fcntl.F_SETFL, 0)
        try:
            os.lseek(opened, 0, os.SEEK_SET)
            os.write(opened, b"y")
        finally:
            fcntl.fcntl(opened, fcntl.F_SETFL, os.O_APPEND)

    return {
        "append to the log": lambda: os.write(opened, b"line\n"),
        "write over the log": write_over,
        "write at an offset of the log": lambda: os.pwrite(opened, b"y", 0),
        "truncate the log": lambda: os.ftruncate(opened, 0),
        "reserve space for the log": lambda: os.posix_fallocate(opened, 0, 1 << 20),
        "map the log": lambda: mmap.mmap(opened, 1),
        "open the log": lambda: os.open(log, os.O_WRONLY | os.O_APPEND),
        "open the log by its descriptor": lambda: os.open(f"/proc/self/fd/{opened}", os.O_RDWR),
        "begin the log anew": lambda: os.open(f"{log}.new", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        "make a nameless file beside the log": lambda: os.open(log.parent, os.O_TMPFILE | os.O_WRONLY),
        "move the log away": lambda: os.rename(log, f"{log}.old"),
        "remove the log": log.unlink,
    }


def attempts(source: Path, log: Path, secret: Path) -> dict[str, Callable[[], object]]:
    return {
        **ways_of_fcntl(source / "image"),
        "read a source": (source / "image").read_bytes,
        "read a new source": (source / "new/image").read_bytes,
        "list the sources": lambda: os.listdir(source / "new"),
        "read a file of the interpreter": lambda: Path(os.__file__).read_bytes(),
        "import a module": lambda: __import__("sqlite3"),
        "read the table of mounts": lambda: Path("/proc/self/mountinfo").read_bytes(),
        "read something else": secret.read_bytes,
        "list something else": lambda: os.listdir(secret.parent),
        "read what this process was given": lambda: Path("/proc/self/environ").read_bytes(),
        "write a source": lambda: (source / "image").open("r+b"),
        "truncate a source that is opened to be read": lambda: os.open(source / "image", os.O_RDONLY | os.O_TRUNC),
        "truncate it in the new way": lambda: _openat2(_folder(source), "image", os.O_RDONLY | os.O_TRUNC),
        "make a source": (source / "made").touch,
        "truncate a source": lambda: os.truncate(source / "image", 0),
        "remove a source": (source / "image").unlink,
        "rename a source": lambda: os.rename(source / "image", source / "other"),
        "change a mode": lambda: (source / "image").chmod(0o777),
        "change a time": lambda: os.utime(source / "image"),
        "set an attribute": lambda: os.setxattr(source / "image", "user.x", b"y"),
        "make a folder": (source / "made").mkdir,
        "make a link": lambda: (source / "made").symlink_to("image"),
        **ways_to_the_log(log),
        "write something else": lambda: secret.open("a").write("x"),
        "open a socket": socket.socket,
        "open a socket of the machine's own": lambda: socket.socket(socket.AF_UNIX),
        "write to an open socket": lambda: _other.send(b"x"),
        "start a process": fork,
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "signal another process": lambda: os.kill(os.getppid(), 0),
        "signal itself": lambda: signal.pthread_kill(threading.get_ident(), 0),
        "trace": by_libc("ptrace", 16, os.getppid(), 0, 0),
        "say how memory is used": by_libc("madvise", None, 0, mmap.MADV_DONTNEED),
        "poison a page of memory": by_libc("madvise", None, mmap.PAGESIZE, 100),
        "take a page of memory away": by_libc("madvise", None, mmap.PAGESIZE, 101),
        "mount": by_libc("mount", b"none", b"/mnt", b"tmpfs", 0, None),
        "unmount": by_libc("umount2", b"/mnt", 2),
        "change the namespace": by_libc("unshare", 0x20000),
        "change the root": lambda: os.chroot("/"),
        "become another": lambda: os.setuid(os.getuid()),
        "look at a limit": by_libc("prlimit", 0, 7, None, ctypes.create_string_buffer(16)),
        "change a limit": by_libc("prlimit", 0, 7, ctypes.create_string_buffer(16), None),
        "start a thread": thread,
    }


def main() -> None:
    source, log, secret = (Path(argument) for argument in sys.argv[1:4])
    if "landlock" in sys.argv[4:]:
        vars(confinement)["why_no_landlock"] = lambda: "planted"
    if "truncation" in sys.argv[4:]:
        vars(confinement)["landlock_abi"] = lambda: 2
        vars(landlock)["_ALL_FILE_RIGHTS"] = dict.fromkeys(range(1, 6), (1 << 14) - 1)
    if "seccomp" in sys.argv[4:]:
        vars(confinement)["why_no_filter"] = lambda: "planted"
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # what it may ask for without a filter
    wanted = attempts(source, log, secret)
    wanted["start a process from an earlier thread"] = in_thread(fork)
    in_force = confine([str(source)])
    print("confined", flush=True)  # noqa: T201 - what the test waits for
    sys.stdin.readline()  # meanwhile the test puts a new folder into the source
    answers = {}
    for name, action in wanted.items():
        try:
            action()
        except OSError as error:
            answers[name] = errno.errorcode[error.errno or 0]
        else:
            answers[name] = "done"
    json.dump({"in force": asdict(in_force), "answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
