"""Telling the service manager that a mount is ready, as sd_notify(3) does: a datagram to the socket that it names.

The socket is connected before the daemon gives up its rights; writing to it needs none. It is closed after one message:
a service manager believes what it is told there, such as another process to end.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vdifs.errors import printable

__all__ = ["service_manager"]

Say = Callable[[str], None]
"""Called with the lines of a message, such as `READY=1`."""

log = logging.getLogger("vdifs.mount")


@contextmanager
def service_manager() -> Iterator[Say]:
    """Give the function that tells the service manager something, once; without one it does nothing."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        yield lambda _: None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        failure: OSError | None = None
        try:
            connection.connect("\0" + name[1:] if name.startswith("@") else name)
        except OSError as error:
            failure = error

        def say(lines: str) -> None:
            try:
                if failure is not None:
                    raise failure
                connection.send(lines.encode())
            except OSError as error:
                log.warning("%s: the service manager was not told that the mount is ready: %s", printable(name), error)
            finally:
                connection.close()

        yield say
