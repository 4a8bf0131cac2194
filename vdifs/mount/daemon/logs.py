"""Where the log of a mount goes: its file, or standard error, or in the background without a file the system's log.

Lines are written by a thread of their own, so that a disk that is full or hangs stops no request. What cannot be
written is counted, and the count is the first line once writing goes again.
"""

import logging
import logging.handlers
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from queue import SimpleQueue

from vdifs.errors import StorageError
from vdifs.mount.daemon.log_opener import LogOpener
from vdifs.mount.view.log_destination import SYSTEM_LOG, log_destination
from vdifs.mount.view.options import MountOptions

__all__ = ["LogThread", "logging_to"]

MAX_WAITING = 10_000
_STANDARD_ERROR = 2
_LOGGERS = ("vdifs", "pyfuse3")


class LogThread:
    """The thread that writes the log."""

    def __init__(self, target: logging.Handler) -> None:
        queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        self.handler = _Enqueue(queue)
        self._listener = logging.handlers.QueueListener(queue, target)

    def start(self) -> None:
        """Start the thread."""
        self._listener.start()

    def stop(self) -> None:
        """Return when the thread has written what was logged, and has ended."""
        self._listener.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have no such thread for a while; what is logged meanwhile is written afterwards."""
        self.stop()
        try:
            yield
        finally:
            self.start()


@contextmanager
def logging_to(options: MountOptions, opener: LogOpener | None = None) -> Iterator[LogThread]:
    """Send the log where the options say. Raises StorageError for a file that cannot be written.

    opener: what begins a file anew that was moved away, where this process may not.
    """
    target = _target(options, opener)
    thread = LogThread(target)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(thread.handler)
        logging.getLogger(name).setLevel(logging.INFO)
    thread.start()
    try:
        yield thread
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(thread.handler)
        thread.stop()
        target.close()


def _target(options: MountOptions, opener: LogOpener | None) -> logging.Handler:
    match log_destination(options):
        case None:
            return logging.NullHandler()
        case "stderr":
            target: logging.Handler = _StandardError()
            target.setFormatter(logging.Formatter("vdifs: %(message)s"))
        case "syslog":
            target = _SystemLog(SYSTEM_LOG, facility=logging.handlers.SysLogHandler.LOG_DAEMON)
            target.ident = f"vdifs[{os.getpid()}]: "
        case path:
            try:
                target = _LogFile(path, opener)
            except OSError as error:
                raise StorageError.from_os(path, error, "choose another log file") from error
            target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return target


class _Enqueue(logging.handlers.QueueHandler):
    """Hands lines to the thread, unless far too many wait already: memory is worth more."""

    def __init__(self, waiting: SimpleQueue[logging.LogRecord]) -> None:
        super().__init__(waiting)
        self._waiting = waiting

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put_nowait(record)


class _StandardError(logging.Handler):
    """Standard error. What it does not take is lost, as when its reader has gone: that ends no mount."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            data = memoryview(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
            while data:
                data = data[os.write(_STANDARD_ERROR, data) :]


class _SystemLog(logging.handlers.SysLogHandler):
    """The system's log, connected to before the daemon is confined. What it does not take is lost."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        del record


class _LogFile(logging.handlers.WatchedFileHandler):
    """A log file, begun anew where logrotate moved it away. One that cannot be written ends no thread."""

    _lost = 0
    _torn = False
    _opener: LogOpener | None = None

    def __init__(self, path: str, opener: LogOpener | None = None) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._opener = opener  # the first time it is opened here: only then does an error keep it from being mounted

    def _open(self) -> TextIOWrapper:
        if self._opener is None:
            return super()._open()
        return open(self._opener.open(), "a", encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            file = self._file()
            lost = f"{self._lost} lines of the log could not be written{self.terminator}" if self._lost else ""
            self._write(file, f"{self.terminator if self._torn else ''}{lost}{self.format(record)}{self.terminator}")
            self._lost = 0
        except OSError:
            self._lost += 1

    def _file(self) -> int:
        """Return the descriptor, of a new file where the old was moved away, even if that could not be had at first."""
        if self.stream is not None and self._was_moved_away():
            try:
                begun = self._open()
            except PermissionError:
                return self.stream.fileno()  # the daemon may open no other: it goes on in the old one
            self.stream.close()
            self.stream = begun
            self._statstream()
        if self.stream is None:
            self.stream = self._open()
            self._statstream()
        return self.stream.fileno()

    def _was_moved_away(self) -> bool:
        try:
            found = os.stat(self.baseFilename)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != (self.dev, self.ino)

    def _write(self, file: int, text: str) -> None:
        """Write at once: what waits in a buffer would come later, torn."""
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        while data:
            written = os.write(file, data)
            data = data[written:]
            self._torn = bool(data)
