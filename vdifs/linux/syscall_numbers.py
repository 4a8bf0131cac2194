"""The numbers of system calls on the machines that are known."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Machine", "number_here", "this_machine"]

# On x86_64 and on aarch64. None: not there.
_NUMBERS: Final = {
    "read": (0, 63),
    "preadv2": (327, 286),
    "fstat": (5, 80),
    "writev": (20, 66),
    "poll": (7, None),
    "ppoll": (271, 73),
    "futex": (202, 98),
    "pread64": (17, 67),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_ctl": (233, 21),
    "write": (1, 64),
    # files
    "close": (3, 57),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "getdents64": (217, 61),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "getcwd": (79, 17),
    "lseek": (8, 62),
    "readv": (19, 65),
    "preadv": (295, 69),
    "fadvise64": (221, 223),
    "readahead": (187, 213),
    "dup": (32, 23),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "epoll_pwait2": (441, 441),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "flistxattr": (196, 13),
    # watching files
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    # opening files
    "openat": (257, 56),
    "open": (2, None),
    "openat2": (437, 437),
    # memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "brk": (12, 214),
    "madvise": (28, 233),
    "getrandom": (318, 278),
    # time and signals
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "setitimer": (38, 103),
    "rt_sigreturn": (15, 139),
    "rt_sigprocmask": (14, 135),
    "rt_sigaction": (13, 134),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # threads and processes
    "clone": (56, 220),
    "clone3": (435, 435),
    "tgkill": (234, 131),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "seccomp": (317, 277),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "membarrier": (324, 283),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "wait4": (61, 260),
    "setsid": (112, 157),
    "waitid": (247, 95),
    # who and where a process is
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrusage": (98, 165),
    "times": (100, 153),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getrlimit": (97, 163),
    # sockets
    "recvfrom": (45, 207),
    "sendto": (44, 206),
    "recvmsg": (47, 212),
}
_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_NEWEST_KNOWN: Final = 470


@dataclass(frozen=True, slots=True)
class Machine:
    """Numbers on one kind of machine. architecture: AUDIT_ARCH of seccomp(2).

    numbers: by name; of one that this kind of machine never had, None. newest: no number above it has a meaning yet
    that anything of ours could rely on.
    """

    architecture: int
    numbers: Mapping[str, int | None]
    newest: int = _NEWEST_KNOWN


def this_machine() -> Machine | None:
    """Return the numbers for this machine, None for a kind that is not known."""
    found = _ARCHITECTURES.get(platform.machine())
    if found is None or sys.maxsize < 1 << 32 or sys.byteorder != "little":
        return None
    column, architecture = found
    return Machine(architecture, {name: row[column] for name, row in _NUMBERS.items()})


def number_here(name: str) -> int | None:
    """Return the number of a system call on this machine, None where it is not known."""
    machine = _ARCHITECTURES.get(platform.machine())
    return None if machine is None else _NUMBERS[name][machine[0]]
