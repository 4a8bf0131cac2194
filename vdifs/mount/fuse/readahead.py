"""How far ahead the kernel reads in a mount: a file below /sys that only root may write."""

import logging
import os

from vdifs.linux.mountinfo import Mount

__all__ = ["Readahead"]

log = logging.getLogger("vdifs.mount")


class Readahead:
    """The setting of one mount: opened before the daemon is confined, set after its first answer, which resets it."""

    def __init__(self, mount: Mount) -> None:
        """Open the setting, or none where that is not allowed."""
        device = f"{os.major(mount.device)}:{os.minor(mount.device)}"
        self._file: int | None = None
        try:
            self._file = os.open(f"/sys/class/bdi/{device}/read_ahead_kb", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("readahead stays as it is: %s", error)

    def set(self, size: int) -> None:
        """Have the kernel read `size` bytes ahead, once the mount answers. Only the first call does anything."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            os.write(file, b"%d" % (size >> 10))
        except OSError as error:
            log.debug("readahead stays as it is: %s", error)
        finally:
            os.close(file)
