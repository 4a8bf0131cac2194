"""The driver of a mount whose daemon runs without Landlock, as on kernels that have none."""

import sys

from tests.mount import driver
from vdifs.mount.daemon import confinement

if __name__ == "__main__":
    vars(confinement)["why_no_landlock"] = lambda: "planted"
    sys.exit(driver.main())
