"""Where the log of a mount goes."""

import os

from vdifs.mount.view.options import MountOptions

__all__ = ["SYSTEM_LOG", "log_destination"]

SYSTEM_LOG = "/dev/log"


def log_destination(options: MountOptions) -> str | None:
    """Return where the log goes, in a word: a path, `stderr`, `syslog`; None for nowhere."""
    if options.log_file is not None:
        return options.log_file
    if options.foreground:
        return "stderr"
    return "syslog" if os.path.exists(SYSTEM_LOG) else None
