"""Opening the log anew where it was moved away, in a process of its own: the daemon may open no file for writing.

    daemon  --one byte-->                    the log was moved away
    opener  <--an errno, and a descriptor--  of the file at the path that was set before the daemon began

The opener believes nothing. The byte has no meaning but that it came: one path is opened, to append to; no link is
followed on the way, and what is there must be an ordinary file. The opener is a child of the supervisor, whose work a
disk that hangs must not stop. It ends with the daemon, which may still log when the supervisor has gone.
"""

import errno
import os
import select
import socket
import stat
import struct
from contextlib import suppress
from typing import Self

from vdifs.linux.descriptors import close_all_but

__all__ = ["LogAnswers", "LogOpener"]

_ANSWER = struct.Struct("=i")
_PATIENCE_MS = 5000
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o666
_REFUSED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO})


class LogOpener:
    """The daemon's side. Its methods are called in the thread that writes the log."""

    def __init__(self, asking: socket.socket) -> None:
        self._asking = asking
        self._patience_ms = _PATIENCE_MS
        self._awaited = False
        self._poll = select.poll()
        self._poll.register(asking, select.POLLIN)

    def open(self) -> int:
        """Return a descriptor of the log, begun anew.

        Raises OSError where it cannot be opened; PermissionError also where the opener does not answer.
        """
        patience = 0 if self._awaited else self._patience_ms
        try:
            if not self._awaited:
                self._asking.send(b"?")
                self._awaited = True
            if not self._poll.poll(patience):
                raise PermissionError(errno.EPERM, "the log has not been opened yet")
            said, descriptors, _, _ = socket.recv_fds(self._asking, _ANSWER.size, 1)
        except ConnectionError as error:
            raise PermissionError(errno.EPERM, "what opens the log has gone") from error
        if not said:
            raise PermissionError(errno.EPERM, "what opens the log has gone")
        self._awaited = False
        (code,) = _ANSWER.unpack(said)
        if not descriptors:
            raise OSError(code, os.strerror(code))
        return descriptors[0]

    def close(self) -> None:
        """Ask no more."""
        self._asking.close()


class LogAnswers:
    """The opener's side. descriptor: that must stay open for it."""

    def __init__(self, path: str, answering: socket.socket) -> None:
        self._path = path
        self._answering = answering
        self.descriptor = answering.fileno()

    @classmethod
    def pair(cls, log_file: str) -> tuple[Self, LogOpener]:
        """Return the two sides for a log, which need not be there yet. Links on the way to it are followed now."""
        answering, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(os.path.realpath(log_file), answering), LogOpener(asking)

    def close(self) -> None:
        """Close this side, in every other process."""
        self._answering.close()

    def start(self) -> None:
        """Answer from now on, in a process of its own, that ends with the daemon."""
        if os.fork() == 0:
            try:
                close_all_but((self.descriptor,))
                os.setsid()
                self.answer()
            finally:
                os._exit(0)
        self.close()

    def answer(self) -> None:
        """Answer what is asked; return when the daemon has gone."""
        with self._answering, suppress(OSError):  # the daemon has gone
            while self._answering.recv(1):
                try:
                    file = open_to_append(self._path)
                except OSError as error:
                    code = errno.EPERM if error.errno in _REFUSED else error.errno
                    self._answering.send(_ANSWER.pack(code or errno.EIO))
                    continue
                try:
                    socket.send_fds(self._answering, [_ANSWER.pack(0)], [file])
                finally:
                    os.close(file)


def open_to_append(path: str) -> int:
    """Return a descriptor of the ordinary file at an absolute path, made if it is missing. No link is followed.

    Raises OSError, ELOOP or ENOTDIR for a link, ENXIO for what is no ordinary file.
    """
    *folders, name = path.split("/")[1:]
    folder = os.open("/", _FOLDER)
    try:
        for each in folders:
            below = os.open(each, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        file = os.open(name, _FLAGS, _MODE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return file
