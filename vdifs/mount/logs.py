"""Where the log of a mount goes: to its file, or to standard error, or in the background without a file nowhere."""

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from vdifs.errors import StorageError
from vdifs.mount.options import MountOptions

__all__ = ["logging_to"]

_LOGGERS = ("vdifs", "pyfuse3")


@contextmanager
def logging_to(options: MountOptions) -> Iterator[None]:
    """Send the log where the options say. Lines are written by a thread, so that a full or hung disk stops nobody."""
    target = _target(options)
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = logging.handlers.QueueHandler(queue)
    listener = logging.handlers.QueueListener(queue, target)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
    listener.start()
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        listener.stop()
        target.close()


def _target(options: MountOptions) -> logging.Handler:
    if options.log_file is not None:
        try:
            target: logging.Handler = logging.FileHandler(options.log_file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise StorageError.from_os(options.log_file, error, "choose another log file") from error
        target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        return target
    if options.foreground:
        target = logging.StreamHandler()
        target.setFormatter(logging.Formatter("vdifs: %(message)s"))
        return target
    return logging.NullHandler()
