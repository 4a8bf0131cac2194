"""How old a file must be before its time stamps tell its next change."""

import time

from vdifs.storage.fingerprint import RACY_NS


def grow_old() -> None:
    """Wait until the next change of a file gives it other time stamps; until then some kernels give it the same."""
    time.sleep(1.5 * RACY_NS / 1e9)
