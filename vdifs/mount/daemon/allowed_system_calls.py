"""The system calls that a mounted daemon may make once it is confined. Any other fails with EPERM.

No sockets, no programs, no processes, no mounts, no other process's memory or signals, and nothing that makes, changes
or removes a file, whatever Landlock allows: none is opened to be written, made or truncated, and what is open to append
to stays so. Which files are opened to be read is Landlock's to allow.

What is allowed whatever its arguments costs nothing: since Linux 5.11 the kernel remembers that, and before it finds
the calls of a read at the beginning. One that is added here needs its number in `vdifs.linux.syscall_numbers`.
"""

import os

from vdifs.linux.seccomp import Argument, Calls, Case, Null

__all__ = ["allowed_system_calls"]

_ALWAYS = (
    # those that answer a read
    "read", "preadv2", "fstat", "writev", "poll", "ppoll", "futex", "pread64", "epoll_wait", "epoll_pwait",
    "epoll_ctl", "write",
    # files: nothing here makes, changes, renames or removes one
    "close", "newfstatat", "stat", "lstat", "statx", "statfs", "fstatfs", "getdents64", "readlink", "readlinkat",
    "access", "faccessat", "faccessat2", "getcwd", "lseek", "readv", "preadv", "fadvise64", "readahead", "dup",
    "dup3", "pipe2", "splice", "tee", "vmsplice", "eventfd2", "epoll_create1", "epoll_pwait2", "getxattr",
    "lgetxattr", "fgetxattr", "listxattr", "flistxattr",
    # watching files through an inotify that was made before; no other can be made
    "inotify_add_watch", "inotify_rm_watch",
    # memory
    "mmap", "munmap", "mremap", "mprotect", "brk", "getrandom",
    # time and signals of its own
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "setitimer",
    "rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "restart_syscall",
    # threads; the daemon's leaving of its caller's session; the end of the supervisor, which is waited for
    "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "getcpu", "membarrier", "exit", "exit_group",
    "wait4", "setsid", "waitid",
    # who and where am I
    "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "times", "sysinfo",
    "uname", "getrlimit",
    # answers from sockets that are open already: those with which trio wakes itself, and that of a log opened anew
    "recvfrom", "recvmsg",
)  # fmt: skip
_CLONE_THREAD = 0x00010000
_CLONE_NEW_NAMESPACES = 0x7E020080
_IOCTLS = (0xC020660B, 0x5401, 0x5450, 0x5451)  # FS_IOC_FIEMAP; TCGETS: is this a terminal?; FIONCLEX, FIOCLEX
_FCNTLS = (0, 1, 2, 3, 5, 36, 1025, 1030, 1031, 1032)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_GETLK, F_OFD_GETLK, F_GETLEASE, F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ.

Neither F_SETOWN, by which a pipe sends signals to any process, nor locks, which keep a virtual machine from starting,
nor F_SETFL, by which a log that is open to append to could be written over.
"""
_F_SETSIG, _F_SETLEASE = 10, 1024
_SIGURG = 23
_F_RDLCK, _F_UNLCK = 0, 2
_O_ACCMODE = 3
_NOT_TO_READ = _O_ACCMODE | os.O_CREAT | os.O_TRUNC
"""Flags of open(2): without them a file is opened to be read, and neither made nor truncated."""
_KNOWS_TRUNCATION = 3
"""The version of Landlock that guards files from being truncated by one that may read them."""
_MOST_ADVICE = 31
_PRCTLS = (15, 0x53564D41)  # PR_SET_NAME, PR_SET_VMA: names for threads and for memory
_HARMLESS: dict[str, tuple[Case, ...]] = {
    "openat": ((Argument(2, (0,), mask=_NOT_TO_READ),),),
    "open": ((Argument(1, (0,), mask=_NOT_TO_READ),),),
    # a thread, no process
    "clone": ((Argument(0, (_CLONE_THREAD,), mask=_CLONE_THREAD | _CLONE_NEW_NAMESPACES),),),
    "fcntl": (
        (Argument(1, _FCNTLS),),
        (Argument(1, (_F_SETSIG,)), Argument(2, (_SIGURG,))),  # what ends no process
        (Argument(1, (_F_SETLEASE,)), Argument(2, (_F_RDLCK, _F_UNLCK))),
    ),
    # neither MADV_HWPOISON nor MADV_SOFT_OFFLINE, which take pages from all
    "madvise": ((Argument(2, (0,), mask=0xFFFFFFFF & ~_MOST_ADVICE),),),
    "prctl": ((Argument(0, _PRCTLS),),),
    "ioctl": ((Argument(1, _IOCTLS),),),
    # to the other end only
    "sendto": ((Null(4),),),
    # asking about itself
    "prlimit64": ((Null(2), Argument(0, (0,))),),
}


def allowed_system_calls(pid: int, landlock: int | None) -> Calls:
    """Return them. pid: of the process that may make them. landlock: the version of it that is in force, None without.

    The arguments of clone3 are out of sight; the C library then makes threads by clone. So are the flags of openat2:
    where nothing else keeps files from being changed it is done by openat, a folder at a time.
    """
    is_guarded = landlock is not None and landlock >= _KNOWS_TRUNCATION
    return Calls(
        always=(*_ALWAYS, *(("openat2",) if is_guarded else ())),
        by_arguments=_HARMLESS | {"tgkill": ((Argument(0, (pid,)),),)},
        absent=("clone3",) if is_guarded else ("clone3", "openat2"),
    )
